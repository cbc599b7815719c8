"""Byzantine fault tolerant consensus, sans-IO, used by both layers: weighted by stake or equal among authorities.

Tendermint's algorithm (arXiv 1807.04938: propose, prevote, precommit, locks, rounds with growing timeouts) over blocks
that are executed before they are voted on. `events` is the seam; `replica` the state machine behind it, built from
`rounds` (the algorithm's rules), `height` (what is known about one height), `gossip` (repair of lost messages),
`catch_up` (committed blocks for those who lag) and `wal` (what must survive a crash). `certificate` and `light`
serve everyone who checks what consensus decided, without taking part.
"""
