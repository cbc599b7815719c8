"""Runs on a machine, as root, from standard input: says as JSON what of a testnet is there and how it is.

Standard library of Python 3.9 and later only, nothing is written; `machine_state.py` sends this file and reads its answer.
The one argument is JSON: {"testnet": name, "images": [tags]}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROPERTIES = (
    "Id,ActiveState,SubState,Result,MainPID,ExecMainStatus,ExecMainCode,NRestarts,UnitFileState,"
    "ActiveEnterTimestampMonotonic"
)


_PAUSED = ("docker", "ps", "--format", "{{.Names}}", "--filter", "status=paused", "--filter")


def read(path: Path) -> str:
    """The text of a small file, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def said(*command: str) -> str:
    """What a command prints; empty when it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def units(testnet: str) -> dict[str, Any]:
    """Every unit of the testnet that is installed, by its file name."""
    found = sorted(path.name for path in Path("/etc/systemd/system").glob(f"stratos-{testnet}-*.service"))
    if not found:
        return {}
    monotonic, now = time.clock_gettime(time.CLOCK_MONOTONIC), time.time()
    answer: dict[str, Any] = {}
    for block in said("systemctl", "show", "--property", PROPERTIES, *found).strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        entered = int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        answer[values.get("Id", "")] = {
            "active": values.get("ActiveState", ""),
            "sub": values.get("SubState", ""),
            "result": values.get("Result", ""),
            "pid": int(values.get("MainPID") or 0),
            "exit_status": int(values.get("ExecMainStatus") or 0),
            "restarts": int(values.get("NRestarts") or 0),
            "enabled": values.get("UnitFileState", "") == "enabled",
            "since_ms": int(1000 * (now - monotonic + entered)) if entered else 0,
        }
    return answer


def main() -> None:
    """Print the answer."""
    asked = json.loads(sys.argv[1])
    testnet = asked["testnet"]
    record = Path("/etc/stratos") / testnet
    text = read(record / "manifest.json")
    manifest = json.loads(text) if text else None
    images = {}
    for tag in asked["images"]:
        images[tag] = said("docker", "image", "inspect", "--format", "{{.Id}}", tag).strip()
    placed = {path.name[: -len(".digest")]: read(path) for path in record.glob("*.digest")}
    running = {path.name[: -len(".digest")]: read(path) for path in (Path("/run/stratos") / testnet).glob("*.digest")}
    print(
        json.dumps(
            {
                "manifest": manifest,
                "images": images,
                "units": units(testnet),
                "paused": said(*_PAUSED, f"label=network.stratos.testnet={testnet}").split(),
                "placed": placed,
                "running": running,
                "time_ms": int(time.time() * 1000),
            }
        )
    )


main()
