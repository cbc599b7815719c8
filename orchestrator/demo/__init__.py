"""The whole story in a minute: a fresh testnet, real traffic, settled epochs, a payout, an audit, a report, and down.

`steps` are the acts, each a function from what it needs to a typed result; `run` plays them in order and assembles the
document of facts; `verdict` says what in it is not as it must be. Nothing here prints: the command line passes a
callback for progress.
"""
