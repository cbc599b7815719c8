"""From `-i INVENTORY` to the testnet's folder, without asking the inventory to be valid.

Commands that only look at or end a running testnet must work while the inventory is being edited, so all they take from
it is the testnet's name.
"""

from __future__ import annotations

from pathlib import Path

import orchestrator
from orchestrator.testnet.folder import TestnetFolder, testnets_root
from orchestrator.topology.inventory import CACHE_FOLDER, load_inventory
from orchestrator.topology.problems import InvalidInventory
from orchestrator.topology.topology import default_name


def default_inventory() -> Path:
    """The inventory of a command without -i."""
    return Path(orchestrator.__file__).resolve().parent.parent / "inventories" / "local.yml"


def locate(source: Path | None = None) -> TestnetFolder:
    """The folder of the testnet that the inventory at `source` (default: inventories/local.yml) describes."""
    inventory = source or default_inventory()
    root = testnets_root()
    by_file = TestnetFolder(root / default_name(str(inventory)))
    try:
        raw = load_inventory(inventory, cache=root / CACHE_FOLDER)
    except InvalidInventory:
        if by_file.exists:
            return by_file
        raise
    named = [host.variables["stratos_testnet"].value for host in raw.hosts if "stratos_testnet" in host.variables]
    name = named[0] if named and isinstance(named[0], str) and "/" not in named[0] else ""
    return TestnetFolder(root / name) if name else by_file
