"""Which hosts of a play act for their machines: several inventory names may share one `ansible_host`.

The first name of a machine in the play is its leader. Groups of leaders are what all later plays run on, so a machine is
worked on once, whatever it holds, and `--limit` to any of its names reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NODE_GROUPS = ("validators", "meta", "resource")
OTHER_GROUPS = {"load": "stratos_load_machines", "monitor": "stratos_monitor_machines"}


def stratos_machine(name: str, hostvars: Mapping[str, Any]) -> str:
    """The label of the machine an inventory host is on, as the tool's topology has it."""
    return str(hostvars[name].get("ansible_host") or name)


def stratos_leaders(
    names: Sequence[str], hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Leaders in inventory order, each with its machine and the groups of leaders it belongs to.

    What a machine is for is asked of all its names, also of those that `--limit` leaves out.
    """
    playing = set(names)
    machines: dict[str, list[str]] = {}
    for name in groups["all"]:
        machines.setdefault(stratos_machine(name, hostvars), []).append(name)
    held = {group: set(groups.get(group, ())) for group in (*NODE_GROUPS, *OTHER_GROUPS)}
    leaders = []
    for machine, members in machines.items():
        leader = next((member for member in members if member in playing), None)
        if leader is None:
            continue
        joined = ["stratos_machines"]
        if any(member in held[group] for member in members for group in NODE_GROUPS):
            joined.append("stratos_node_machines")
        joined += [name for group, name in OTHER_GROUPS.items() if any(member in held[group] for member in members)]
        leaders.append({"name": leader, "machine": machine, "groups": joined})
    return leaders


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """The filters of this file."""
        return {"stratos_leaders": stratos_leaders, "stratos_machine": stratos_machine}
