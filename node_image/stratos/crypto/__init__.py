"""Keys, addresses, content names, signatures and proofs: everything that is cryptography and nothing else.

Pure functions and small immutable records; the only file that touches a disk is `keyfile.py`. Modules are imported one
by one (`stratos.crypto.keys`, `stratos.crypto.cid`, ...), because each pulls in a different native library and a program
should pay only for what it uses. Nothing here imports `stratos.wire`.
"""
