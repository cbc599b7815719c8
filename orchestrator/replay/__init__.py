"""The ledger as a calculator: a script of messages run against a fresh ledger, without a network.

`script` reads and checks the whole script before anything runs, `params` its parameters, `names` turns names into
wallets and node keys, `runner` gives each step its own block and the chain's own handlers, `answers` the queries.
The library never prints; `cli/ledger.py` does.
"""
