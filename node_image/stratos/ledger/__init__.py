"""The value layer's state machine: bank, staking, register, pot, sds, deterministic to the wei.

`machine.Ledger` is the whole of it for callers; `queries` answers questions about its state. Inside, each module owns
some rooms of the state and the messages about them: `bank` (balances, pools, supply), `staking`, `distribution` and
`conduct` (validators), `register` and `membership` (nodes and authorities), `sds` (ozone market), `pot`, `rewards` and
`penalties` (Proof-of-Traffic). `fixed` is the only fractional number, `authority` the only place that counts signatures.
Nothing here knows a clock, a socket or a random source.
"""
