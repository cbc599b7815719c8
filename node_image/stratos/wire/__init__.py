"""Every message that crosses a process boundary or a disk, as bounded, frozen, typed msgspec records.

`limits` is the one place for sizes and counts, `codec` the one way in and out of bytes, `scalars` the bounded
field types. The other modules hold the records of one conversation each: `block` (consensus), `txs` (ledger
messages), `genesis`, `metalog` (entries of the meta layer's log), `transfer` (slices), `rpc` (control frames).
"""
