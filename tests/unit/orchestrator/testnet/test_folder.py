"""The testnet's folder: what is written can be read back, secrets are private, and a torn file is never made anew."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.plan.plan import Existing, Outcome
from orchestrator.runtimes.identity import lock_holder
from orchestrator.testnet.addresses import node_address, wallet_address, with_names
from orchestrator.testnet.folder import TestnetFolder, dump_genesis, endpoints_of, files_of
from orchestrator.testnet.lock import hold_testnet
from orchestrator.testnet.survey import OURS, NodeView, roots_equal
from stratos.client.errors import NotFound
from stratos.client.testnet import load_testnet
from stratos.crypto.keyfile import load_node_key, load_wallet_key
from stratos.wire.config import load_config
from stratos.wire.genesis import load_genesis
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology


@pytest.fixture
def outcome() -> Outcome:
    """A planned testnet of the default shape."""
    from orchestrator.plan.plan import make_plan

    return make_plan(
        topology(), Existing(), SEARCH, random=counter(), time_ms=1_800_000_000_000, is_free=lambda port: True
    )


@pytest.fixture
def folder(tmp_path: Path, outcome: Outcome) -> TestnetFolder:
    """Its folder, written."""
    folder = TestnetFolder(tmp_path / "net")
    folder.path.mkdir()
    folder.save_ring(outcome.ring)
    folder.save_plan(outcome.plan)
    folder.save_genesis(outcome.genesis)
    folder.save_wallets(outcome.ring)
    folder.save_endpoints(outcome.plan)
    return folder


def test_what_is_written_is_read_back(folder: TestnetFolder, outcome: Outcome) -> None:
    """Ring, plan and genesis survive the disk, so the next `up` continues from them."""
    assert folder.existing() == Existing(outcome.ring, outcome.plan, outcome.genesis)
    assert load_genesis(folder.genesis_file) == outcome.genesis


def test_clients_can_load_the_folder(folder: TestnetFolder, outcome: Outcome) -> None:
    """The client finds genesis, endpoints and the user's wallet where it looks for them."""
    testnet = load_testnet(folder.path)
    assert testnet.genesis == outcome.genesis
    assert testnet.endpoints == endpoints_of(outcome.plan)
    assert testnet.wallet("user").address == outcome.ring.wallet_key("user").address


def test_secrets_are_private(folder: TestnetFolder) -> None:
    """Only their owner may read the ring and the wallets."""
    for path in (folder.ring_file, *folder.wallets.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.wallets.stat().st_mode) == 0o700


def test_a_home_holds_what_a_node_reads(folder: TestnetFolder, outcome: Outcome) -> None:
    """Config, genesis and both keys of each home are the ones planned, in the node's own formats."""
    for node in files_of(outcome.plan, outcome.ring, outcome.genesis):
        home = folder.nodes / node.name
        home.mkdir(parents=True)
        for name, content in node.files.items():
            (home / name).write_bytes(content)
            (home / name).chmod(0o600)
        secrets = outcome.ring.nodes[node.name]
        assert load_config(home / "config.json") == outcome.plan.node(node.name).config
        assert load_genesis(home / "genesis.json") == outcome.genesis
        assert load_node_key(home / "node.key").address == secrets.node_key().address
        assert load_wallet_key(home / "wallet.key").address == secrets.owner_key().address
    assert folder.placed() == {node.name: node.config for node in outcome.plan.nodes}


def test_a_torn_file_is_an_error_with_a_fix(folder: TestnetFolder) -> None:
    """Neither the ring nor the genesis is silently replaced by a new one."""
    folder.ring_file.write_bytes(folder.ring_file.read_bytes()[:50])
    with pytest.raises(EnvironmentFault, match="down --purge"):
        folder.existing()
    folder.ring_file.unlink()
    with pytest.raises(EnvironmentFault, match="lost"):
        folder.existing()


def test_genesis_on_disk_is_sorted_json(outcome: Outcome) -> None:
    """One genesis has one file."""
    content = dump_genesis(outcome.genesis)
    names = list(msgspec.json.decode(content))
    assert names == sorted(names)
    assert content.startswith(b'{\n  "accounts": [')


def test_a_retired_home_comes_back(folder: TestnetFolder) -> None:
    """Data of a node that left is kept aside, twice if need be, and put back when it returns."""
    home = folder.nodes / "r1"
    for number in (1, 2):
        home.mkdir(parents=True)
        (home / "data").write_text(str(number))
        folder.retire("r1")
    assert (folder.removed / "r1" / "data").read_text() == "1"
    assert (folder.removed / "r1.1" / "data").read_text() == "2"
    assert folder.bring_back("r1")
    assert (home / "data").read_text() == "1"
    assert not folder.bring_back("r1")


def test_names_and_addresses_are_understood_or_explained(folder: TestnetFolder, outcome: Outcome) -> None:
    """A wallet or node may be named or addressed; anything else is answered with what would have been understood."""
    node = outcome.plan.node("m1")
    assert node_address(folder, "m1") == node_address(folder, node.node)
    assert wallet_address(folder, "m1").text == node.owner
    assert wallet_address(folder, "user").raw == wallet_address(folder, wallet_address(folder, "user").text).raw
    with pytest.raises(BadInput, match="v1, v2"):
        node_address(folder, "nobody")
    with pytest.raises(BadInput, match="faucet, probe, user"):
        wallet_address(folder, "nobody")
    with pytest.raises(BadInput, match="is not an address"):
        wallet_address(folder, "st1nonsense")


def test_the_lock_is_held_by_one_process_and_may_be_nested(tmp_path: Path) -> None:
    """Inside its own lock a process may take it again; after the last it is free."""
    with hold_testnet(tmp_path, "net"), hold_testnet(tmp_path, "net"):
        pass
    assert lock_holder(tmp_path / ".locks" / "net.lock") is None


def test_state_roots_are_compared_at_one_height() -> None:
    """Different heights prove nothing; one different root at a common height is a difference."""

    def view(height: int, root: str) -> NodeView:
        return NodeView(
            name="v",
            role="validator",
            whose=OURS,
            state="running",
            health="ok",
            node="",
            height=height,
            state_root=root,
        )

    assert roots_equal([view(1, "a"), view(2, "b")]) is None
    assert roots_equal([view(1, "a"), view(1, "a"), view(2, "b")]) is True
    assert roots_equal([view(1, "a"), view(1, "b")]) is False


def test_a_testnet_that_is_not_there_is_one_sentence_everywhere(tmp_path: Path) -> None:
    """Commands that read the folder and clients say the same, with the same exit code, and what to do."""
    folder = TestnetFolder(tmp_path / "local")
    with pytest.raises(BadInput, match="stratosctl up") as ours:
        folder.need_plan()
    with pytest.raises(NotFound) as clients:
        load_testnet(folder.path)
    assert str(clients.value) == str(ours.value) and clients.value.exit_code == ours.value.exit_code


def test_a_wallet_that_is_not_there_is_bad_input(folder: TestnetFolder) -> None:
    """The client refuses an unknown wallet with the exit code that `tx` and `wallet` give it."""
    with pytest.raises(NotFound, match="it has faucet, probe, user"):
        load_testnet(folder.path).wallet("nobody")


def test_the_chains_addresses_get_names(folder: TestnetFolder, outcome: Outcome) -> None:
    """In a sentence of the chain, addresses of this testnet become names, and all others stay."""
    node, owner = node_address(folder, "r1").raw.hex(), wallet_address(folder, "r1").raw.hex()
    user, stranger = wallet_address(folder, "user").raw.hex(), "ab" * 20
    sentence = f"{user} does not own node {node}; its owner is {owner}, not {stranger}"
    named = f"wallet user does not own node r1; its owner is wallet r1, not {stranger}"
    assert with_names(folder, sentence) == named
    assert with_names(folder, "r1 is suspended") == "r1 is suspended"
