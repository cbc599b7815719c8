"""A participant joins a testnet that a coordinator runs, as two people would: two folders, two inventories, one ticket."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import COMMAND_SECONDS, Tool, eventually

from stratos.client import Client, ObjectToPut
from stratos.crypto.keyfile import save_key
from stratos.crypto.keys import WalletKey


class Participant:
    """Another person's tool: their own testnets folder, and what they have is a ticket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.tool = Tool(folder)
        self.inventory = folder / "mine.yml"
        self.tool.inventory = self.inventory

    def join(self, ticket: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`join` to the end."""
        program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "join", ticket, "-o", str(self.inventory)]
        return subprocess.run(
            [*program, "--runtime", "process", "--name", "mine", *options],
            env=self.tool.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Tool]:
    """A testnet that is up; gone at the end."""
    tool = Tool(tmp_path)
    tool.json("up", "--no-probe")
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


@pytest.fixture
def participant(tmp_path: Path) -> Iterator[Participant]:
    """Somebody else, whose node is gone at the end."""
    participant = Participant(tmp_path / "theirs")
    yield participant
    if participant.inventory.exists():
        assert participant.tool.run("down", "--purge").returncode == 0
    eventually(lambda: participant.tool.processes() == [])


def _ticket(coordinator: Tool, *options: str) -> dict[str, Any]:
    return coordinator.json("ticket", "create", *(options or ("--role", "resource")))


def test_a_participant_joins_earns_and_stops(coordinator: Tool, participant: Participant) -> None:
    """With nothing but the ticket a node gets funds, registers, becomes active and is given slices; both sides see it."""
    ticket = _ticket(coordinator)
    done = participant.join(ticket["ticket"], "--coordinator-key", ticket["coordinator"], "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["active"], report["role"], report["tier"]) == (True, "resource", 1)
    assert report["paid_wei"] == int(ticket["grant_wei"])
    again = json.loads(participant.join(ticket["ticket"], "--json").stdout)
    assert (again["changed"], again["paid_wei"], again["active"]) == (0, 0, True)
    assert participant.tool.json("up")["changed"] == 0

    theirs = {node["name"]: node["whose"] for node in coordinator.json("status")["nodes"]}
    assert theirs == {"v1": "ours", "m1": "ours", "r1": "ours", "r2": "ours", "mine": "outside"}
    seen = participant.tool.json("status")
    assert {node["name"]: node["whose"] for node in seen["nodes"]} == {
        "mine": "ours",
        "v1": "outside",
        "m1": "outside",
        "r1": "outside",
        "r2": "outside",
    }
    assert seen["height"] > 0
    home = participant.tool.root / "net" / "nodes" / "mine" / "data" / "slices" / "slices"
    with Client.from_testnet(coordinator.root / "net") as client:

        def receives_a_slice() -> bool:
            client.put_many([ObjectToPut(name=f"o{number}", data=os.urandom(1_000)) for number in range(20)])
            return any(path.is_file() for path in home.rglob("*"))

        eventually(receives_a_slice)
    eventually(lambda: "mine" in json.dumps(participant.tool.json("rewards")))
    assert participant.tool.json("down")["stopped"] == ["mine"]
    assert coordinator.json("status")["running"] == 4


def test_what_is_refused_changes_nothing(coordinator: Tool, participant: Participant) -> None:
    """A forged, an expired and an unfit machine's ticket: the reason on stderr, the documented exit code, no file."""
    good = _ticket(coordinator)["ticket"]
    forged = participant.join(good[:60] + ("A" if good[60] != "A" else "B") + good[61:])
    assert (forged.returncode, "damaged" in forged.stderr) == (2, True)
    pinned = participant.join(good, "--coordinator-key", "00" * 32)
    assert (pinned.returncode, "which you trust" in pinned.stderr) == (2, True)
    assert not participant.inventory.exists()
    tier = _ticket(coordinator, "--role", "resource", "--tier", "3")["ticket"]
    unfit = participant.join(tier, "--measure")
    assert (unfit.returncode, "tier 3 of role resource" in unfit.stderr) == (1, True)
    assert "32" in unfit.stderr  # processors that tier 3 asks for
    assert not (participant.tool.root / "net" / "keys").exists()
    assert _document(coordinator, good)["role"] == "resource"
    for stderr in (forged.stderr, pinned.stderr, unfit.stderr):
        assert "Traceback" not in stderr


def test_a_killed_join_is_finished_by_the_next(coordinator: Tool, participant: Participant) -> None:
    """Killed right after the faucet has paid, the same command goes on; the faucet does not pay twice."""
    ticket = _ticket(coordinator)["ticket"]
    for step in ("keys", "paid", "placed"):
        participant.tool.run_until_step_of(
            step, "join", ticket, "-o", str(participant.inventory), "--runtime", "process", "--name", "mine"
        )
    done = json.loads(participant.join(ticket, "--json").stdout)
    assert (done["active"], done["paid_wei"]) == (True, 0)
    limits = json.loads(_read(coordinator, "/stratos/faucet/v1/limits"))
    given = 5_000_000 * 10**18 - int(limits["total_left_wei"])
    assert given == int(_document(coordinator, ticket)["grant_wei"])


def test_a_meta_node_joins_when_it_is_voted_in(coordinator: Tool, participant: Participant) -> None:
    """It deposits by itself and waits; the coordinator's vote admits it, and the layer has one more authority."""
    ticket = _ticket(coordinator, "--role", "meta")["ticket"]
    program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "join", ticket, "-o", str(participant.inventory)]
    with subprocess.Popen(
        [*program, "--runtime", "process", "--name", "mine", "--json"],
        env=participant.tool.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as joining:
        registered = f"{_http(coordinator, 'v1')}/stratos/register/v1/meta_nodes"

        def candidate() -> str:
            nodes = json.loads(_get(registered))["nodes"]
            return next((node["address"] for node in nodes if node["name"] == "mine"), "")

        eventually(candidate)
        vote = coordinator.run("tx", "vote", candidate(), "--voter", "m1", "--from", "m1")
        assert vote.returncode == 0, vote.stderr
        out, err = joining.communicate(timeout=COMMAND_SECONDS)
    assert joining.returncode == 0, err
    assert json.loads(out)["active"] is True
    eventually(lambda: json.loads(_read(coordinator, "/status"))["authorities"] == 2)
    seen = {node["name"]: node for node in participant.tool.json("status")["nodes"]}
    assert (seen["mine"]["role"], seen["mine"]["health"]) == ("meta", "ok")


STOS = 10**18


def _validators(coordinator: Tool) -> dict[str, dict[str, Any]]:
    found = json.loads(_get(f"{_http(coordinator, 'v1')}/stratos/staking/v1/validators"))["validators"]
    return {one["name"]: one for one in found}


def test_a_validator_joins_with_a_ticket(coordinator: Tool, participant: Participant) -> None:
    """The faucet pays the stake; nobody's file names the newcomer, and it votes, also after both sides were down; it leaves."""
    ticket = _ticket(coordinator, "--role", "validator", "--grant", "1000")
    done = participant.join(ticket["ticket"], "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["role"], report["active"], report["paid_wei"]) == ("validator", True, 1_000 * STOS)
    assert int(_validators(coordinator)["mine"]["tokens_wei"]) == report["stake_wei"] < 1_000 * STOS
    assert json.loads(_get(f"{_http(coordinator, 'v1')}/status"))["validators"] == 2

    def votes() -> bool:
        seen = {node["name"]: node for node in participant.tool.json("status")["nodes"]}
        return seen["mine"]["health"] == "ok" and bool(seen["mine"]["details"]["voting"])

    assert votes()
    again = json.loads(participant.join(ticket["ticket"], "--json").stdout)
    assert (again["changed"], again["paid_wei"]) == (0, 0)
    assert participant.tool.json("down")["stopped"] == ["mine"]
    coordinator.json("down")
    coordinator.json("up")
    assert participant.tool.json("up")["started"] == 1
    height = coordinator.json("status")["height"]
    eventually(lambda: coordinator.json("status")["height"] > height + 2 and votes())

    stake = f"{report['stake_wei']}wei"
    left = participant.tool.run("tx", "undelegate", "mine", stake, "--from", "mine")
    assert left.returncode == 0, left.stderr
    eventually(lambda: json.loads(_get(f"{_http(coordinator, 'v1')}/status"))["validators"] == 1)


def test_a_validator_without_a_grant_brings_its_stake(
    coordinator: Tool, participant: Participant, tmp_path: Path
) -> None:
    """Told what is missing before anything runs; with the wallet filled the same command finishes, killed at any step or not."""
    ticket = _ticket(coordinator, "--role", "validator")["ticket"]
    wallet = WalletKey.from_secret(b"w" * 32)
    save_key(tmp_path / "own.key", wallet)
    options = ("--wallet", str(tmp_path / "own.key"), "--stake", "50")
    refused = participant.join(ticket, *options)
    assert (refused.returncode, "the ticket grants nothing" in refused.stderr) == (2, True), refused.stderr
    assert participant.tool.processes() == []
    sent = coordinator.run("tx", "send", wallet.text, "51", "--from", "user")
    assert sent.returncode == 0, sent.stderr
    for step in ("placed", "started", "ready"):
        participant.tool.run_until_step_of(
            step, "join", ticket, "-o", str(participant.inventory), "--runtime", "process", "--name", "mine"
        )
    done = json.loads(participant.join(ticket, "--json").stdout)
    assert (done["active"], done["paid_wei"], done["stake_wei"]) == (True, 0, 50 * STOS)
    record = _validators(coordinator)["mine"]
    assert (record["operator"], int(record["tokens_wei"])) == (wallet.text, 50 * STOS)


def test_public_files_are_joined_from_and_must_be_whole(
    coordinator: Tool, participant: Participant, tmp_path: Path
) -> None:
    """Published by the coordinator and served by anybody; one changed byte and the participant is told."""
    public = tmp_path / "public"
    assert "genesis.json" in coordinator.json("publish", "-o", str(public))["files"]
    with _served(public) as url:
        ticket = _ticket(coordinator, "--role", "resource", "--public-files", url)["ticket"]
        genesis = (public / "genesis.json").read_bytes()
        (public / "genesis.json").write_bytes(genesis + b" ")
        refused = participant.join(ticket)
        assert (refused.returncode, "tampered" in refused.stderr) == (2, True)
        (public / "genesis.json").write_bytes(genesis)
        done = participant.join(ticket, "--json")
        assert json.loads(done.stdout)["active"] is True, done.stderr


def _http(coordinator: Tool, name: str) -> str:
    return next(node["endpoint"] for node in coordinator.json("status")["nodes"] if node["name"] == name)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        data: bytes = answer.read()
    return data


def _read(coordinator: Tool, path: str) -> bytes:
    return _get(f"{_http(coordinator, 'm1')}{path}")


def _document(coordinator: Tool, ticket: str) -> dict[str, Any]:
    program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "ticket", "show", ticket, "--json"]
    done = subprocess.run(program, env=coordinator.environment, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The folder over HTTP, on a port of this machine."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""
