"""Resource layer: keeps slices, moves them, proves that it has them, and accounts for every byte it is paid for.

Pure parts: `pieces` (hash tree of a slice), `accounts` (cumulative receipts of sessions, uploads and repairs).
Disk: `store` (slices), `journal` (receipts). Sockets, blocking and in threads: `frames`, `link` (dialling),
`server` (accepting), `receiving` (uploads with chain replication), `serving` (downloads, fetches, possession proofs).
Trust: `tokens` checks what a caller shows against the meta layer's certificates. `node` is the shell that ties them
together and talks to the meta layer: `reporter` (status, receipts), `repair` (copies on order, drops).
"""
