"""The network a ticket leads to: believed by its hash and the coordinator's signature, refused with the reason otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.joining.network import Unreachable, find_network
from orchestrator.plan.plan import Outcome
from orchestrator.publishing.sums import Sums, sign_sums
from orchestrator.testnet.folder import dump_genesis, endpoints_of, readable
from stratos.crypto.keys import NodeKey
from stratos.wire.genesis import genesis_hash
from tests.unit.orchestrator.joining.conftest import NOW, Issue

BASE = "https://public.example.org/net"


class Web:
    """What URLs give; everything else is out of reach."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.pages:
            raise Unreachable(f"{url} cannot be read: refused")
        return self.pages[url]


@pytest.fixture
def web(outcome: Outcome) -> Web:
    """All nodes of the testnet answer, and its files are published."""
    web = Web()
    genesis, hash_hex = outcome.genesis, genesis_hash(outcome.genesis).hex()
    for node in outcome.plan.nodes:
        web.pages[f"{node.http}/status"] = msgspec.json.encode({"genesis_hash": hash_hex})
        if node.role == "validator":
            document = {"hash": hash_hex, "genesis": msgspec.to_builtins(genesis)}
            web.pages[f"{node.http}/stratos/genesis"] = msgspec.json.encode(document)
    publish(web, outcome)
    return web


def publish(web: Web, outcome: Outcome, **changes: Any) -> None:
    """Put the public files on the web, signed; `changes` replace a file after that."""
    files = {"genesis.json": dump_genesis(outcome.genesis), "endpoints.json": readable(endpoints_of(outcome.plan))}
    key = outcome.ring.coordinator_key()
    sums = sign_sums(key, network="net", genesis_hash=genesis_hash(outcome.genesis), time_ms=NOW, files=files)
    for name, content in {**files, "checksums.json": readable(sums), **changes}.items():
        web.pages[f"{BASE}/{name}"] = content


def quiet(_text: str) -> None:
    """Nobody listens."""


def test_the_seeds_give_genesis_and_entry_points(issue: Issue, web: Web, outcome: Outcome) -> None:
    """Without published files the ticket's seeds are the entry points."""
    found = find_network(issue(), say=quiet, get=web)
    assert found.genesis == outcome.genesis
    assert [one.name for one in found.endpoints.validators] == ["v1", "v2", "v3"]
    assert [one.name for one in found.endpoints.meta] == ["m1", "m2", "m3"]


def test_published_files_name_everybody(issue: Issue, web: Web, outcome: Outcome) -> None:
    """With them all validators and meta nodes are entry points, and no resource node is."""
    found = find_network(issue(public_files=BASE), say=quiet, get=web)
    assert len(found.endpoints.validators) == 4
    assert len(found.endpoints.meta) == 4
    assert found.endpoints.resource == ()


def test_published_files_out_of_reach_are_done_without(issue: Issue, web: Web) -> None:
    """The seeds serve, and the participant is told."""
    said: list[str] = []
    del web.pages[f"{BASE}/checksums.json"]
    assert len(find_network(issue(public_files=BASE), say=said.append, get=web).endpoints.meta) == 3
    assert "out of reach" in said[0]


def _other_key(outcome: Outcome, sums: Sums) -> Sums:
    files = {"genesis.json": dump_genesis(outcome.genesis), "endpoints.json": readable(endpoints_of(outcome.plan))}
    key = NodeKey.from_seed(b"o" * 32)
    return sign_sums(key, network="net", genesis_hash=genesis_hash(outcome.genesis), time_ms=NOW, files=files)


def _other_file(outcome: Outcome, sums: Sums) -> Sums:
    digest = hashlib.sha256(b"{}").hexdigest()
    return msgspec.structs.replace(sums, files={**sums.files, "endpoints.json": digest})


TAMPERED: dict[str, tuple[str, Callable[[Outcome, Sums], Sums]]] = {
    "signed by another": ("are signed by", _other_key),
    "a digest changed": ("not the coordinator's", _other_file),
    "another network": ("are of the network", lambda _o, sums: msgspec.structs.replace(sums, genesis_hash="00" * 32)),
    "an unknown version": ("version is 9", lambda _o, sums: msgspec.structs.replace(sums, version=9)),
    "another time": ("not the coordinator's", lambda _o, sums: msgspec.structs.replace(sums, time_ms=1)),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_changed_check_sums_are_refused(case: str, issue: Issue, web: Web, outcome: Outcome) -> None:
    """Whatever was changed in the signed check sums: refused, and the coordinator is to be told."""
    reason, change = TAMPERED[case]
    url = f"{BASE}/checksums.json"
    web.pages[url] = readable(change(outcome, msgspec.json.decode(web.pages[url], type=Sums)))
    with pytest.raises(BadInput, match=f"tampered.*{reason}"):
        find_network(issue(public_files=BASE), say=quiet, get=web)


@pytest.mark.parametrize("name", ["genesis.json", "endpoints.json"])
def test_a_changed_public_file_is_refused(name: str, issue: Issue, web: Web) -> None:
    """One byte more in a file that is signed."""
    web.pages[f"{BASE}/{name}"] += b" "
    with pytest.raises(BadInput, match=f"tampered.*{name}"):
        find_network(issue(public_files=BASE), say=quiet, get=web)


def test_junk_instead_of_check_sums_is_refused(issue: Issue, web: Web) -> None:
    """A page that says something else altogether is an error with a sentence."""
    web.pages[f"{BASE}/checksums.json"] = b"<html>"
    with pytest.raises(BadInput, match="not what it should be"):
        find_network(issue(public_files=BASE), say=quiet, get=web)


def test_another_genesis_is_refused(issue: Issue, web: Web, outcome: Outcome) -> None:
    """A ticket of a network that was made anew, or seeds that moved to another: the hash decides."""
    other = msgspec.structs.replace(outcome.genesis, network="other")
    for node in outcome.plan.nodes:
        web.pages[f"{node.http}/stratos/genesis"] = msgspec.json.encode({"genesis": msgspec.to_builtins(other)})
    with pytest.raises(BadInput, match="serves network other with genesis"):
        find_network(issue(), say=quiet, get=web)


def test_one_honest_seed_is_enough(issue: Issue, web: Web, outcome: Outcome) -> None:
    """A seed that lies or is silent is passed over."""
    first, second, _ = (node for node in outcome.plan.nodes[:3])
    web.pages[f"{first.http}/stratos/genesis"] = b"junk"
    del web.pages[f"{second.http}/stratos/genesis"]
    assert find_network(issue(), say=quiet, get=web).genesis == outcome.genesis


@pytest.mark.parametrize(("layer", "role"), [("validator", "validator"), ("meta node", "meta")])
def test_nobody_there_is_an_environment_fault(layer: str, role: str, issue: Issue, web: Web, outcome: Outcome) -> None:
    """No validator, or no meta node, answers: told with each address that was tried."""
    for node in outcome.plan.nodes:
        if node.role == role:
            web.pages = {url: page for url, page in web.pages.items() if not url.startswith(node.http)}
    with pytest.raises(EnvironmentFault, match=f"no {layer} of the ticket answers: http://"):
        find_network(issue(), say=quiet, get=web)


def test_meta_nodes_of_another_network_do_not_count(issue: Issue, web: Web, outcome: Outcome) -> None:
    """An address that another testnet has taken over is no seed."""
    for node in outcome.plan.nodes:
        web.pages[f"{node.http}/status"] = msgspec.json.encode({"genesis_hash": "00" * 32})
    with pytest.raises(EnvironmentFault, match="is of another network"):
        find_network(issue(), say=quiet, get=web)
