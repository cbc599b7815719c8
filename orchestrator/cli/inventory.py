"""`stratosctl inventory check`: what an inventory says, all its mistakes at once, nothing touched."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import ENVIRONMENT, OK
from orchestrator.cli.parsing import parser

if TYPE_CHECKING:
    from orchestrator.topology.topology import Topology

EXAMPLES = """  stratosctl inventory check -i inventories/fleet.yml
  stratosctl inventory check -i inventories/fleet.yml --connect      also log in to every machine
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import default_inventory  # after parsing: --help must be quick
    from orchestrator.testnet.planning import topology_at

    source = options.inventory or default_inventory()
    topology = topology_at(source)
    reached = _connect(topology) if options.connect else {}
    failed = {name: sentence for name, sentence in reached.items() if sentence}
    if options.json:
        from orchestrator.cli.storage import print_json

        print_json(
            {
                "testnet": topology.name,
                "runtime": topology.runtime,
                "nodes": topology.nodes,
                "machines": topology.machines,
                "load": topology.load_hosts,
                "monitor": topology.monitor_hosts,
                "warnings": topology.warnings,
                "unreachable": failed,
            }
        )
    else:
        _show(topology, reached, connected=options.connect)
    return ENVIRONMENT if failed else OK


def _connect(topology: Topology) -> dict[str, str]:
    """Machine -> what is wrong with logging in and becoming root there, empty when nothing is."""
    from orchestrator.fleet.connections import Result, close_all, run_all
    from orchestrator.fleet.sudo_passwords import use_inventory

    use_inventory(topology.source)
    answers = run_all(topology.machines, "true", timeout=15.0, sudo=True)
    close_all()
    return {
        name: (f"{name}: exit code {answer.code}: {answer.said}" if answer.code else "")
        if isinstance(answer, Result)
        else answer.sentence
        for name, answer in answers.items()
    }


def _show(topology: Topology, reached: dict[str, str], *, connected: bool) -> None:
    from orchestrator.cli.tables import aligned

    print(f"testnet {topology.name} of {topology.source}: runtime {topology.runtime}, {len(topology.nodes)} nodes")
    rows = [("NODE", "ROLE", "MACHINE", "ADDRESS", "REGION", "TIER", "STOS LOCKED", "LIMITS")]
    for node in topology.nodes:
        limits = [
            f"{node.cpus:g} cpus" if node.cpus else "",
            f"{node.memory_bytes >> 20} MiB" * bool(node.memory_bytes),
        ]
        limits.append(f"{node.bandwidth_mbit} Mbit/s" if node.bandwidth_mbit else "")
        locked = (node.stake_wei or node.deposit_wei) // 10**18
        told = ", ".join(filter(None, limits))
        rows.append(
            (node.name, node.role, node.machine, node.address, node.region, str(node.tier or ""), f"{locked:,}", told)
        )
    print(aligned(rows))
    for kind, hosts in (("load", topology.load_hosts), ("monitor", topology.monitor_hosts)):
        if hosts:
            print(f"{kind}: {', '.join(hosts)}")
    for warning in topology.warnings:
        print(f"warning: {warning}")
    failed = [sentence for sentence in reached.values() if sentence]
    for sentence in failed:
        print(f"not reached: {sentence}")
    if connected and not failed:
        print(f"every machine ({len(reached)}) lets us in and become root")
    print(
        "the inventory is valid" + (f", but {len(failed)} of {len(reached)} machines cannot be used" if failed else "")
    )


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("inventory", "Check an inventory without touching anything.", examples=EXAMPLES)
    command.add_argument("action", choices=["check"], help="what to do")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--connect", action="store_true", help="also log in to every machine and become root")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
