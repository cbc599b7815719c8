"""Looking at a running testnet and taking it away: logs, exec, ssh, collect, destroy, with real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import Tool, eventually

from orchestrator.testnet.control import kill_nodes
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.redaction import forms_of, secrets_of


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """A testnet that is up, and gone at the end."""
    tool = Tool(tmp_path)
    assert tool.run("up").returncode == 0
    yield tool
    assert tool.run("destroy", "--yes").returncode == 0
    eventually(lambda: tool.processes() == [])
    assert not (tool.root / "net").exists()


def execute(tool: Tool, *words: str) -> subprocess.CompletedProcess[str]:
    """`exec` with a command after --."""
    program = tool.command("exec")[:-2]
    return subprocess.run(
        [*program, "-i", str(tool.inventory), *words], env=tool.environment, capture_output=True, text=True, timeout=300
    )


def test_logs_are_merged_and_filtered(tool: Tool) -> None:
    """Nodes, groups, levels and patterns narrow the stream; an unknown node is refused by name."""
    everything = [json.loads(line) for line in tool.run("logs", "--json").stdout.splitlines()]
    assert {line["node"] for line in everything} == {"v1", "m1", "r1", "r2"}
    some = [json.loads(line) for line in tool.run("logs", "resource", "m1", "--json").stdout.splitlines()]
    assert {line["node"] for line in some} == {"m1", "r1", "r2"}
    event = everything[0]["event"]
    matching = [json.loads(line) for line in tool.run("logs", "--grep", event, "--json").stdout.splitlines()]
    assert matching and all(event in json.dumps(line) for line in matching)
    assert tool.run("logs", "--level", "critical").stdout == ""
    refused = tool.run("logs", "nobody")
    assert (refused.returncode, "no node 'nobody'" in refused.stderr) == (2, True)


def test_exec_runs_in_the_homes_and_tells_their_exit_codes(tool: Tool) -> None:
    """One node's code is the command's; one of several that fails makes 1; what came from whom is told."""
    assert json.loads(execute(tool, "r1", "--", "cat", "config.json").stdout)["name"] == "r1"
    assert execute(tool, "r1", "--", "sh", "-c", "exit 7").returncode == 7
    both = execute(tool, "resource", "--", "sh", "-c", 'test "$(basename "$PWD")" = r1')
    assert (both.returncode, both.stderr) == (1, "r2 | exit code 1\n")
    listed = json.loads(execute(tool, "all", "--json", "--", "pwd").stdout)
    assert [Path(one["output"].strip()).name for one in listed] == ["v1", "m1", "r1", "r2"]
    assert execute(tool, "r1").returncode == 2
    assert "nodes/m1" in tool.run("ssh", "m1", "--show").stdout


def test_a_collection_has_everything_but_secrets(tool: Tool, tmp_path: Path) -> None:
    """The archive is private, holds logs, configs, metrics and versions, names what is missing, and no key in any form."""
    folder = TestnetFolder(tool.root / "net")
    ring = folder.ring()
    with (folder.nodes / "m1" / "node.log").open("ab") as log:
        log.write(b'{"level": "error", "event": "leak %s"}\n' % ring.nodes["m1"].node_seed.encode())
    kill_nodes(folder, ["r2"])
    target = tmp_path / "all.tar.gz"
    done = tool.run("collect", "-o", str(target), "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, set(report["problems"]), report["redacted"]) == (4, {"r2"}, 1)
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    names = {name.removeprefix("net/") for name in content}
    wanted = {"plan.json", "genesis.json", "journal.jsonl", "status.json", "collection.json", "machines/localhost.txt"}
    assert wanted <= names
    assert {f"nodes/v1/{name}" for name in ("config.json", "log.jsonl", "metrics.txt", "status.json")} <= names
    assert "nodes/r2/log.jsonl" in names and "nodes/r2/metrics.txt" not in names
    assert not any("key" in Path(name).name for name in names)
    forms = [form for secret in secrets_of(ring) for form in forms_of(secret)]
    assert [name for name, text in content.items() for form in forms if form in text] == []
    assert b"leak [REDACTED]" in content["net/nodes/m1/log.jsonl"]


def test_destroy_asks_and_converges(tool: Tool) -> None:
    """Without a terminal and --yes nothing is touched; --keep-data keeps what the next `up` needs; twice is once."""
    refused = tool.run("destroy")
    assert (refused.returncode, "say --yes" in refused.stderr) == (2, True)
    assert tool.json("status")["running"] == 4
    height = tool.json("status")["height"]
    kept = tool.json("destroy", "--yes", "--keep-data")
    assert len(kept["stopped"]) == 4 and (tool.root / "net" / "keys" / "ring.json").exists()
    eventually(lambda: tool.processes() == [])
    assert tool.json("up")["height"] >= height
    gone = tool.json("destroy", "--yes")
    assert gone["changed"] == 5 and not (tool.root / "net").exists()
    again = tool.run("destroy", "--yes")
    assert (again.returncode, "there is no testnet net" in again.stdout) == (0, True)
