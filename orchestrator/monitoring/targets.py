"""Whom Prometheus scrapes: file_sd documents from a plan and its machines.

Pure. One document lists the nodes (where each serves /metrics), one the machines (node exporter). The labels set here
are the ones all queries group by; nodes never export labels of these names, so nothing has to be renamed at a scrape.
Prometheus watches the files, so one host more is one file written and no restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from orchestrator.plan.plan import Plan

EXPORTER_PORT = 9100
NODE_LABELS = frozenset({"job", "instance", "testnet", "node", "role", "region", "machine"})
"""Labels that every sample of a node has, beside its own."""
MACHINE_LABELS = frozenset({"job", "instance", "testnet", "region", "machine"})
NODES_FILE = "nodes.json"
MACHINES_FILE = "machines.json"


class Exporter(Struct, frozen=True):
    """A machine with a node exporter."""

    machine: str
    address: str
    region: str = ""
    port: int = EXPORTER_PORT


def node_targets(plan: Plan) -> list[dict[str, Any]]:
    """One file_sd group per node, in start order."""
    return [
        {
            "targets": [join(*node.metrics_address)],
            "labels": {
                "testnet": plan.name,
                "node": node.name,
                "role": node.role,
                "region": node.config.region,
                "machine": node.machine or node.config.host or node.name,
            },
        }
        for node in plan.operated
    ]


def machine_targets(testnet: str, exporters: Iterable[Exporter]) -> list[dict[str, Any]]:
    """One file_sd group per machine, each machine once."""
    once = {exporter.machine: exporter for exporter in exporters}
    return [
        {
            "targets": [join(exporter.address, exporter.port)],
            "labels": {"testnet": testnet, "region": exporter.region, "machine": exporter.machine},
        }
        for exporter in once.values()
    ]


def target_files(plan: Plan, exporters: Iterable[Exporter]) -> dict[str, list[dict[str, Any]]]:
    """Both documents by file name: the value of `stratos_monitoring_targets`."""
    return {NODES_FILE: node_targets(plan), MACHINES_FILE: machine_targets(plan.name, exporters)}


def join(host: str, port: int) -> str:
    """host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
