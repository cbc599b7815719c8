"""The load image has what the load tests import: its own lock is a part of the tool's, and with the node's it is enough."""

import ast
import re
import sys
from pathlib import Path

from orchestrator.image.lock import problems_between, problems_of_lock

ROOT = Path(__file__).resolve().parents[3]
LOADTESTS = ROOT / "loadtests"


def locked(path: Path) -> set[str]:
    """Names of the packages in a lock file."""
    return {
        name.lower().replace("-", "_") for name in re.findall(r"^([A-Za-z0-9_.-]+)==", path.read_text(), re.MULTILINE)
    }


def test_the_lock_is_a_part_of_the_tools_lock() -> None:
    """Same versions, same hashes: a load generator on a host is the one that runs here."""
    assert problems_of_lock(LOADTESTS / "requirements.in", LOADTESTS / "requirements.lock") == []
    assert problems_between(LOADTESTS / "requirements.lock", ROOT / "requirements.lock") == []


def test_everything_imported_is_locked() -> None:
    """What load tests import is of the standard library, ours, or in one of the two locks of the image."""
    imported = set()
    for path in LOADTESTS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    known = locked(LOADTESTS / "requirements.lock") | locked(ROOT / "node_image" / "requirements.lock")
    assert imported - known - set(sys.stdlib_module_names) - {"stratos", "loadtests"} == set()
