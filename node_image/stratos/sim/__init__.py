"""Deterministic simulation: the real consensus core, ledger, bridge and meta log in virtual time, from one seed.

A seed draws a network (how many nodes, what weights, who lies), a schedule of faults and the load; virtual time jumps
from event to event, so minutes of partitions and crashes pass in a fraction of a second and happen again exactly
from the same seed. `invariants` watches everything that was ever sent or committed. A failing seed shrinks to the
fewest faults that still fail. Nothing here is imported by a node.
"""
