"""The value layer's node: ledger and consensus core behind a mempool, a durable store, RPC and REST.

Pure: `mempool` (what waits), `execution` (a block run through the ledger). Durable: `store` (blocks, certificates, results and
state in one batch), `application` (the state machine the consensus host runs). Shell: `admission` (signatures in
threads), `gossip`, `service` (RPC), `rest` and its tables, `node` (one validator put together).
"""
