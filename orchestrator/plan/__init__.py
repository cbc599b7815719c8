"""Topology + what exists -> Plan: keys, genesis, ports, one config tree per node, and the difference. Pure."""
