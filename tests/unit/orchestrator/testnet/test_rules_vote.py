"""Voting for new rules with our validators, against the real ledger: what is so is found first, so calling again is harmless."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.chain_api import Committed
from orchestrator.errors import BadInput, PartialFailure
from orchestrator.testnet import rules_vote
from orchestrator.testnet.rules_vote import schedule_rules
from stratos.crypto import bech32
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.ledger import queries
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import LedgerError
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import NEWEST_RULES
from stratos.state import Branch, MemoryStore
from stratos.wire.genesis import Genesis, GenesisValidator
from stratos.wire.txs import Message, ProposeUpgrade, VoteUpgrade

STOS = 10**18
NAMES = ("v1", "v2", "v3", "v4")
NODES = {name: NodeKey(name.encode() * 16) for name in NAMES}
WALLETS = {name: WalletKey.from_secret(name.encode() * 16) for name in NAMES}


class Chain:
    """Answers as validators do, a block per transaction, half a second each. `ours` are the validators of the folder."""

    def __init__(self, ours: tuple[str, ...] = NAMES) -> None:
        self.genesis = Genesis(
            network="unit",
            time_ms=0,
            foundation_wei="0",
            validators=tuple(
                GenesisValidator(
                    operator=WALLETS[name].address, node_public_key=NODES[name].public_key, stake_wei=str(STOS)
                )
                for name in NAMES
            ),
        )
        self.ledger = Ledger(self.genesis)
        self.state = MemoryStore()
        self.height = 0
        self.sent: list[Message] = []
        first = Branch(self.state)
        self.ledger.init_genesis(first)
        self.state.apply(first.changes())
        self.block(40)
        secrets = {
            name: SimpleNamespace(node_key=lambda name=name: NODES[name], owner_key=lambda name=name: WALLETS[name])
            for name in ours
        }
        nodes = [SimpleNamespace(name=name, role="validator") for name in ours]
        self.folder: Any = SimpleNamespace(
            name="unit",
            ring=lambda: SimpleNamespace(nodes=secrets),
            endpoints=lambda: None,
            need_genesis=lambda: self.genesis,
            need_plan=lambda: SimpleNamespace(nodes=nodes),
        )
        self.statuses: dict[str, dict[str, Any] | None] = {name: {"newest_rules": NEWEST_RULES} for name in ours}

    def block(self, height: int, message: Message | None = None, sender: bytes = b"") -> LedgerError | None:
        at = BlockContext(height=height, time_ms=height * 500)
        branch = Branch(self.state)
        self.ledger.begin_block(branch, at)
        refused = None
        if message is not None:
            effects = branch.branch()
            try:
                self.ledger.handle(effects, sender, message, at)
                effects.merge()
            except LedgerError as error:
                refused = error
        self.ledger.end_block(branch, at)
        self.state.apply(branch.changes())
        self.height = height
        return refused

    def get(self, path: str) -> Any:
        assert path == "/stratos/upgrade/v1/plan"
        return queries.upgrade(self.state, self.ledger.rules, name=lambda address: bech32.encode(bech32.NODE, address))

    def header(self, height: int) -> Any:
        height = height or self.height
        return SimpleNamespace(header=SimpleNamespace(height=height, time_ms=height * 500))

    def send(self, key: WalletKey, message: Message, *, genesis_hash: bytes) -> Committed:
        assert genesis_hash == self.ledger.genesis_hash
        self.sent.append(message)
        refused = self.block(self.height + 1, message, key.address)
        code, error = ("ok", "") if refused is None else (refused.code, refused.sentence)
        return Committed(hash="00", height=self.height, code=code, error=error, events=(), tx={})


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """chain(ours=...) -> Chain, which the tool then talks to."""

    def made(**arguments: Any) -> Chain:
        one = Chain(**arguments)
        monkeypatch.setattr(rules_vote, "ChainApi", lambda _endpoints: one)
        monkeypatch.setattr(rules_vote, "all_statuses", lambda _nodes: one.statuses)
        monkeypatch.setattr(rules_vote, "ThreadPoolExecutor", OneAfterTheOther)
        return one

    return made


class OneAfterTheOther:
    """The pool of a test: the chain here is one object."""

    def __init__(self, max_workers: int) -> None:
        assert max_workers > 0

    def __enter__(self) -> "OneAfterTheOther":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def map(self, work: Any, items: Any) -> Any:
        return [work(item) for item in items]


def quiet(_line: str) -> None:
    return


def test_our_validators_plan_the_rules_at_about_the_wanted_time(chain: Any) -> None:
    """Twenty seconds are forty blocks at half a second."""
    one = chain()
    done = schedule_rules(one.folder, 2, say=quiet)
    assert (done.version, done.height, done.in_force, done.changed) == (2, 40 + 40, False, True)
    assert [type(message) for message in one.sent[:3]] == [ProposeUpgrade, VoteUpgrade, VoteUpgrade]


def test_a_height_that_would_be_too_near_is_moved_behind_the_votes(chain: Any) -> None:
    """The chain's notice and ten blocks for the votes are the least."""
    one = chain()
    assert schedule_rules(one.folder, 2, say=quiet, lead_seconds=0.1).height == 40 + 10 + 10


def test_a_second_call_only_reports(chain: Any) -> None:
    """Planned, and later in force: nothing is sent any more."""
    one = chain()
    first = schedule_rules(one.folder, 2, 70, say=quiet)
    sent = len(one.sent)
    again = schedule_rules(one.folder, 2, say=quiet)
    assert (again.height, again.in_force, again.changed) == (first.height, False, False)
    one.block(70)
    after = schedule_rules(one.folder, 2, say=quiet)
    assert (after.height, after.in_force, after.changed) == (70, True, False)
    assert len(one.sent) == sent


def test_an_open_proposal_is_taken_up(chain: Any) -> None:
    """A call that was killed after its proposal goes on with the votes that are missing."""
    one = chain()
    one.send(WALLETS["v1"], ProposeUpgrade(NODES["v1"].address, 2, 90), genesis_hash=one.ledger.genesis_hash)
    one.send(WALLETS["v2"], VoteUpgrade(NODES["v2"].address, 2, 90, approve=True), genesis_hash=one.ledger.genesis_hash)
    one.sent.clear()
    assert schedule_rules(one.folder, 2, say=quiet).height == 90
    assert [message.validator for message in one.sent] == [NODES["v3"].address, NODES["v4"].address]


def test_another_height_replaces_the_plan(chain: Any) -> None:
    """Asked for by number, it is proposed and voted like the first."""
    one = chain()
    schedule_rules(one.folder, 2, 90, say=quiet)
    assert schedule_rules(one.folder, 2, 120, say=quiet).height == 120
    assert one.get("/stratos/upgrade/v1/plan")["plan"]["height"] == "120"


def test_too_little_power_is_a_partial_failure_that_names_the_others(chain: Any) -> None:
    """Two of four vote; the rest is for the other operators."""
    one = chain(ours=("v1", "v2"))
    with pytest.raises(PartialFailure, match=r"tx vote-upgrade.*then run this again"):
        schedule_rules(one.folder, 2, 90, say=quiet)
    for name in ("v3", "v4"):
        one.send(
            WALLETS[name], VoteUpgrade(NODES[name].address, 2, 90, approve=True), genesis_hash=one.ledger.genesis_hash
        )
    assert schedule_rules(one.folder, 2, say=quiet).changed is False


def test_what_cannot_be_is_refused_before_anything_is_sent(chain: Any) -> None:
    """An unknown version, an older one, a testnet without validators, a height the chain will not take."""
    one = chain()
    with pytest.raises(BadInput, match="this program knows 1 to"):
        schedule_rules(one.folder, NEWEST_RULES + 1, say=quiet)
    assert one.sent == []
    with pytest.raises(BadInput, match="operates no validator"):
        schedule_rules(chain(ours=()).folder, 2, say=quiet)
    one = chain()
    with pytest.raises(BadInput, match="height 45 is too near"):
        schedule_rules(one.folder, 2, 45, say=quiet)
    schedule_rules(one.folder, 2, 90, say=quiet)
    one.block(90)
    with pytest.raises(BadInput, match="rules only go on"):
        schedule_rules(one.folder, 1, say=quiet)


def test_programs_that_would_stop_are_named(chain: Any) -> None:
    """They are not refused: the image may be installed before the height."""
    one = chain()
    one.statuses["v3"] = {"newest_rules": 1}
    one.statuses["v4"] = None
    said: list[str] = []
    schedule_rules(one.folder, 2, 90, say=said.append)
    assert [line for line in said if "will stop there" in line] == [
        "v3 knows rules up to version 1 and will stop there; install a newer image on it in time"
    ]
