"""The reward oracle: what every epoch should have paid, worked out again and held against three ledgers.

The three ledgers have three owners: the load generator (what clients verified and signed), the resource nodes (the
receipts each one keeps) and the chain (reports, payouts, prepays). The oracle follows protocol 4 and 5 in
exact rationals and imports wire types and crypto only, never the ledger it checks, so that one misreading of a rule
cannot hide in both. A verdict is never stronger than its evidence: an empty or unreadable ledger is an error with
a reason, and only a run in which every compared figure agrees says `agree`.
"""
