"""What a person should know about a change of the chain's rules that is under way, from what validators say in /status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Statuses = Mapping[str, Mapping[str, Any] | None]
"""/status documents of validators by name; None where there was no answer."""


def rules_notes(statuses: Statuses) -> list[str]:
    """The planned version with its height, and who will stop there."""
    plans = [status["upgrade_plan"] for status in statuses.values() if status and status.get("upgrade_plan")]
    if not plans:
        return []
    plan = max(plans, key=lambda one: int(one["approved_height"]))
    version = int(plan["rules_version"])
    return [f"rules version {version} begins with block {plan['height']}", *old_programs(statuses, version)]


def old_programs(statuses: Statuses, version: int) -> list[str]:
    """A sentence for each validator whose program does not know the version."""
    known = {name: (status or {}).get("newest_rules") for name, status in statuses.items()}
    return [
        f"{name} knows rules up to version {newest} and will stop there; install a newer image on it in time"
        for name, newest in known.items()
        if isinstance(newest, int) and newest < version
    ]
