"""Passwords for sudo, where a machine asks for one: from the inventory's vault, when needed, and kept in memory only.

A Machine is written into plans and bundles, so it carries no secret. Whoever works on machines says once which inventory they come
from; only when a machine has refused sudo without a password is `ansible_become_password` of its host read, through Ansible and its vault. It travels
on the stdin of sudo, never in a command line.
"""

from __future__ import annotations

import threading
from pathlib import Path

_lock = threading.Lock()
_inventory: Path | None = None
_known: dict[str, str] = {}


def use_inventory(source: str) -> None:
    """Machines come from this inventory from now on."""
    global _inventory
    with _lock:
        if source and _inventory != Path(source):
            _inventory = Path(source)
            _known.clear()


def password_of(host: str) -> str:
    """The password of an inventory host, or nothing."""
    with _lock:
        if _inventory is None or not _inventory.exists():
            return ""
        if host in _known:
            return _known[host]
        from orchestrator.topology.inventory import become_password  # Ansible, half a second, for this only

        found = become_password(_inventory, host)
        if found:
            _known[host] = found
        return found
