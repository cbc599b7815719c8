"""Transport shared by all layers: frames over TLS 1.3, RPC, the peer mesh and the host of the consensus core.

What the rooms above use:

- `rpc.RpcServer`, `rpc.RpcClient`, `blocking.BlockingRpcClient`: requests and answers, three peer classes;
- `mesh.PeerMesh`: the nodes of one layer, connected in pairs, one connection per pair;
- `guard.guard`: the one way to run an eternal task;
- `consensus_host.ConsensusHost`: a `bft.Replica` with timers, write-ahead log and catch-up;
- `http.build_app`: /status, /health and /metrics of every role.

Nothing here knows what a block or a slice means.
"""
