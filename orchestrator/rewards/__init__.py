"""Money as the network itself tells it: read from validators and meta nodes, tabled, proven, handed to the audit.

`chain` reads the chain, `receipts` the two other ledgers, `evidence` puts the three together for
`orchestrator.audit` (which reads nothing itself and shares no code with the ledger). `table` is who earned what; `proof`
verifies one payout with nothing but the genesis file.
"""
