"""Locust users that send real traffic through a testnet and check every byte of it.

Run by `stratosctl` in a process of its own (Locust patches the standard library), or by hand:

    locust -f loadtests/mixed.py --headless -u 6 -t 30s --testnet .testnets/local --size 64KiB-1MiB

`upload.py`, `download.py` and `stream.py` are one workload each, `mixed.py` is all three.
"""
