"""`stratosctl plan`: what an inventory would become, and what differs from what is there. Touches nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser

EXAMPLES = """  stratosctl plan
  stratosctl plan -i inventories/demo.yml --json
  stratosctl plan --variables
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    if options.variables:
        _print_variables(as_json=options.json)
        return OK
    from orchestrator.testnet.locate import default_inventory  # after parsing: --help must be quick
    from orchestrator.testnet.planning import plan_testnet
    from orchestrator.testnet.preview import preview

    planned = plan_testnet(options.inventory or default_inventory())
    plan = planned.outcome.plan
    hosts = preview(planned)
    if options.json:
        import msgspec

        document = {"plan": plan, "differences": planned.difference.nodes, "hosts": hosts}
        document["folder"] = str(planned.folder.path)
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        return OK
    from orchestrator.cli.tables import aligned

    fresh = not planned.folder.exists
    print(f"testnet {plan.name} of {plan.source} in {planned.folder.path}" + (" (new)" if fresh else ""))
    kinds = {node.name: node for node in planned.difference.nodes}
    rows = [("NODE", "ROLE", "HOST", "PORTS", "STOS LOCKED", "IDENTITY", "CHANGE")]
    for node in plan.nodes:
        ports = node.config.ports
        listed = "/".join(str(port) for port in (ports.p2p, ports.http, ports.bulk, ports.metrics) if port)
        change = kinds[node.name]
        text = change.kind + (f": {'; '.join(change.reasons)}" if change.kind == "changed" else "")
        locked = (node.stake_wei or node.deposit_wei) // 10**18
        rows.append((node.name, node.role, node.config.host, listed, f"{locked:,}", node.node, text))
    removed = [node for node in planned.difference.nodes if node.kind == "removed"]
    rows += [(node.name, node.role, "", "", "", "", "removed: no longer in the inventory") for node in removed]
    print(aligned(rows))
    if fresh:
        print("keys and ports are an example; `up` makes the real ones")
    for host in hosts:
        done = [*host.reasons]
        done += [f"starts {', '.join(host.starts)}"] if host.starts else []
        done += [f"restarts {', '.join(host.restarts)}"] if host.restarts else []
        print(f"{host.host}: {host.change}" + (f"; {'; '.join(done)}" if done else ""))
    counts = {kind: len(planned.difference.names(kind)) for kind in ("added", "changed", "removed", "unchanged")}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
    for warning in plan.warnings:
        print(f"warning: {warning}")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "plan", "Show what an inventory would become, and what differs from what is there.", examples=EXAMPLES
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    command.add_argument("--variables", action="store_true", help="list every stratos_* variable and leave")
    return command.parse_args(argv)


def _print_variables(*, as_json: bool) -> None:
    import msgspec

    from orchestrator.plan.genesis import settings_tree
    from orchestrator.topology.topology import GenesisSettings
    from orchestrator.topology.variables import VARIABLES, WEI_PER_STOS

    defaults = settings_tree(GenesisSettings())
    listed = []
    for row in VARIABLES.values():
        default: object = row.default
        if row.target:
            default = defaults
            for part in row.target:
                assert isinstance(default, dict)
                default = default[part]
        elif row.name.endswith("_stos") and isinstance(default, int):
            default = default // WEI_PER_STOS
        where = "all" if row.where == "all" else f"{row.where} of {', '.join(row.roles)}"
        listed.append(
            {"name": row.name, "doc": row.doc, "allowed": row.kind.allowed, "default": default, "stands_on": where}
        )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode({"variables": listed}), indent=2).decode())
        return
    for one in listed:
        print(
            f"{one['name']}\n    {one['doc']}\n    {one['allowed']}; default {one['default']!r}; stands on: {one['stands_on']}"
        )
