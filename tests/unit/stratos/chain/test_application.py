"""The value layer's state machine without sockets: executed once, equal everywhere, refused when it lies."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.bft.blocks import entries_root, header_hash
from stratos.chain.store import ChainStore
from stratos.ledger import bank, rulebook
from stratos.ledger.events import event
from stratos.ledger.roots import bridge_root
from stratos.net.block_log import StoreMismatch
from stratos.state import DurableState, State, StateProof, verify_state_proof
from stratos.wire.block import Block, Commit, Header, PrecommitSignature, Validator
from stratos.wire.codec import decode, encode
from stratos.wire.limits import (
    FULL_BRIDGE_BYTES,
    MAX_DUE_PER_BLOCK,
    MAX_ENTRY_BYTES,
    MAX_NAME_BYTES,
    MAX_VALIDATORS,
)
from stratos.wire.metalog import ChainBlock
from stratos.wire.txs import Prepay, ProposeUpgrade, Send, VoteUpgrade


def follow(builders: Any, other: Any, block: Block) -> None:
    """Verify and commit a block on another application that has seen its transactions."""
    assert other.application.verify(block) is None
    other.commit(block, other.certify(block))


def test_a_verifier_reaches_the_same_roots_and_the_same_state(builders: Any) -> None:
    """Proposed on one, verified and committed on another: equal state roots, balances and mempools."""
    one, other = builders.Chain(), builders.Chain()
    sends = [builders.checked(wallet, Send(builders.WALLETS[5].address, str(10 + wallet)), 0) for wallet in range(4)]
    one.add(*sends)
    other.add(*sends)
    block = one.application.propose(one.template())
    assert len(block.entries) == 4
    commit = one.certify(block)
    one.commit(block, commit)
    follow(builders, other, block)
    assert one.state.root == other.state.root == block.header.state_root
    assert bank.balance(other.state, builders.WALLETS[5].address) == 1_000 * 10**18 + 10 + 11 + 12 + 13
    assert len(one.mempool) == len(other.mempool) == 0
    assert one.application.last_hashes == [tx.hash for tx in sends]


def test_a_block_is_committed_even_if_it_was_never_verified_here(builders: Any) -> None:
    """Catch-up: commit executes what is missing."""
    one, other = builders.Chain(), builders.Chain()
    send = builders.checked(0, Send(builders.WALLETS[5].address, "1"), 0)
    block = one.step(send)
    other.add(send)
    other.commit(block, other.certify(block))
    assert other.state.root == one.state.root


@pytest.mark.parametrize("root", ["state_root", "results_root", "bridge_root"])
def test_a_header_with_a_wrong_root_is_refused_by_name(builders: Any, root: str) -> None:
    """The reason names the root; nothing is kept of the block."""
    one, other = builders.Chain(), builders.Chain()
    block = one.application.propose(one.template())
    header = msgspec.structs.replace(block.header, **{root: b"\7" * 32})
    lie = msgspec.structs.replace(block, header=header)
    reason = other.application.verify(lie)
    assert reason is not None
    assert root.removesuffix("_root") in reason
    assert other.application.verify(block) is None


def test_transactions_that_cannot_pay_are_left_out_and_a_block_with_one_is_refused(builders: Any) -> None:
    """A proposer drops them from block and mempool; a verifier answers a block that carries one with the reason."""
    one, other = builders.Chain(), builders.Chain()
    poor = [builders.checked(0, Send(builders.WALLETS[1].address, str(1_000 * 10**18 - 10**9)), 0)]
    poor.append(builders.checked(0, Send(builders.WALLETS[1].address, "1"), 1))
    one.add(*poor)
    block = one.application.propose(one.template())
    assert block.entries == (poor[0].raw,)
    assert len(one.mempool) == 1
    stuffed_entries = (poor[0].raw, poor[1].raw)
    header = msgspec.structs.replace(block.header, entries_root=entries_root(stuffed_entries))
    stuffed = msgspec.structs.replace(block, header=header, entries=stuffed_entries)
    other.add(*poor)
    reason = other.application.verify(stuffed)
    assert reason is not None
    assert "cannot pay" in reason


def test_a_failed_message_keeps_fee_and_sequence_and_is_in_the_block(builders: Any) -> None:
    """The result says why; the sender paid."""
    chain = builders.Chain()
    wallet = builders.WALLETS[2]
    chain.step(builders.checked(2, Send(builders.WALLETS[1].address, str(10**25)), 0))
    results = chain.store.results(1)
    assert results is not None
    assert results.results[0].code == "funds"
    assert bank.balance(chain.state, wallet.address) == 1_000 * 10**18 - 10**9
    assert bank.sequence(chain.state, wallet.address) == 1


def test_unknown_transactions_of_a_block_must_be_checked_first(builders: Any) -> None:
    """A block whose transactions were never checked here is not executed."""
    one, other = builders.Chain(), builders.Chain()
    block = one.step(builders.checked(0, Send(builders.WALLETS[5].address, "1"), 0))
    reason = other.application.verify(block)
    assert reason is not None
    assert "not checked" in reason


def test_several_candidates_of_one_height_and_one_is_kept(builders: Any) -> None:
    """Rounds may bring different blocks; committing one forgets the others, and the state is that of the one."""
    one, other = builders.Chain(), builders.Chain()
    first, second = (builders.checked(wallet, Send(builders.WALLETS[5].address, "1"), 0) for wallet in (0, 1))
    other.add(first, second)
    one.add(first)
    block_a = one.application.propose(one.template())
    one.add(second)
    block_b = one.application.propose(one.template(time_ms=one.application.time_ms + 2_000))
    assert header_hash(block_a.header) != header_hash(block_b.header)
    assert other.application.verify(block_a) is None
    assert other.application.verify(block_b) is None
    other.commit(block_b, other.certify(block_b))
    assert other.state.root == block_b.header.state_root
    refusal = other.application.verify(block_a)
    assert refusal is not None


def test_bridge_events_of_a_block_have_the_root_in_its_header(builders: Any) -> None:
    """What the meta layer is handed is what the header commits to; other events are not in it."""
    chain = builders.Chain()
    block = chain.step(builders.checked(0, Prepay(builders.WALLETS[0].address, str(10**18)), 0))
    bridge = chain.store.bridge(1)
    assert bridge is not None
    assert [event.kind for event in bridge.events] == ["ozone_bought"]
    assert bridge_root(bridge.events) == block.header.bridge_root
    empty = chain.step()
    assert empty.header.bridge_root == bridge_root(())


def test_a_block_full_of_bridge_events_leaves_the_rest_to_the_next(
    builders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the bound no transaction follows: the proposer keeps the rest waiting, a block that carries more is refused."""
    monkeypatch.setattr("stratos.chain.execution.FULL_BRIDGE_BYTES", 200)
    prepays = [builders.checked(wallet, Prepay(builders.WALLETS[0].address, str(10**18)), 0) for wallet in range(4)]
    one, other = builders.Chain(), builders.Chain()
    one.add(*prepays)
    other.add(*prepays)
    block = one.application.propose(one.template())
    assert block.entries == tuple(tx.raw for tx in prepays[:2])
    assert len(one.mempool) == 4
    entries = tuple(tx.raw for tx in prepays[:3])
    header = msgspec.structs.replace(block.header, entries_root=entries_root(entries))
    reason = other.application.verify(msgspec.structs.replace(block, header=header, entries=entries))
    assert reason is not None
    assert "belongs into the next block" in reason
    one.commit(block, one.certify(block))
    follow(builders, other, block)
    assert one.step().entries == tuple(tx.raw for tx in prepays[2:])


def test_the_fullest_block_fits_into_one_entry_of_the_meta_log() -> None:
    """Bridge events up to the bound, one transaction and all due deposits more, a hundred voters twice: one entry."""
    prepay = event("ozone_bought", payer=b"p" * 20, beneficiary=b"b" * 20, noz=10**30, wei=10**30)
    name = "n" * MAX_NAME_BYTES
    created = event(
        "resource_created", node=b"n" * 20, public_key=b"k" * 32, owner=b"o" * 20, beneficiary=b"b" * 20,
        host=name, name=name, network_address=name, deposit=10**30,
    )  # fmt: skip
    due = [
        event("unbonded", node=b"n" * 20, amount=10**30, slashed=10**30),
        event("meta_removed", node=b"n" * 20, reason="released"),
        event("unbonding", node=b"n" * 20, release_ms=10**15, deposit=10**30),
    ] * MAX_DUE_PER_BLOCK
    before = [prepay] * (FULL_BRIDGE_BYTES // len(encode(prepay)))
    root = b"h" * 32
    header = Header(1, "value", root, 2**40, 2**45, root, root, root, root, root, root, root, root, b"a" * 20)
    commit = Commit(2**40, 2**20, root, tuple(PrecommitSignature(i, b"s" * 64) for i in range(MAX_VALIDATORS)))
    voters = tuple(Validator(b"v" * 20, b"k" * 32, 2**61) for _ in range(MAX_VALIDATORS))
    body = ChainBlock(header, commit, (*before, created, *due), voters)
    assert len(encode(body)) + 1024 < MAX_ENTRY_BYTES


def test_a_value_is_proved_against_the_header_of_its_block(builders: Any) -> None:
    """The header carries the root after the block itself."""
    chain = builders.Chain()
    block = chain.step(builders.checked(0, Send(builders.WALLETS[5].address, "1"), 0))
    key = b"bank/balance/" + builders.WALLETS[5].address
    proof = decode(encode(chain.state.prove(key)), StateProof)
    assert verify_state_proof(block.header.state_root, key, b"%d" % (1_000 * 10**18 + 1), proof)


def test_everything_of_a_block_is_found_again_after_a_restart(builders: Any, tmp_path: Path) -> None:
    """Block, certificate, results, transaction index, tip and validator sets survive in one store."""
    state = DurableState.open(tmp_path / "store")
    chain = builders.Chain(state)
    send = builders.checked(0, Send(builders.WALLETS[5].address, "1"), 0)
    blocks = [
        chain.step(send),
        chain.step(),
        chain.step(builders.checked(1, Send(builders.WALLETS[0].address, "1"), 0)),
    ]
    root, tip_hash = state.root, chain.application.block_hash
    state.close()
    again = builders.Chain(DurableState.open(tmp_path / "store"))
    assert again.tip.height == 3
    assert again.tip.block_hash == tip_hash
    assert again.state.root == root
    for height, block in enumerate(blocks, start=1):
        committed = again.store.block(height)
        assert committed is not None
        assert committed.block == block
        assert committed.commit.block_hash == header_hash(block.header)
    found = again.store.transaction(send.hash)
    assert found is not None
    assert (found.height, found.index, found.tx, found.result.code) == (1, 0, send.raw, "ok")
    assert again.store.block(4) is None
    again.step()
    assert again.application.height == 4
    again.state.close()


def test_a_store_of_another_network_is_refused(builders: Any) -> None:
    """The genesis hash is in the store."""
    state = State()
    builders.Chain(state)
    with pytest.raises(StoreMismatch, match="the store is of network"):
        ChainStore(state, genesis_hash=b"\1" * 32)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3 * 10**20)), max_size=25),
    st.integers(1, 4),
)
def test_money_is_conserved_and_both_sides_agree_on_random_transfers(
    builders: Any, transfers: list[tuple[int, int, int]], blocks: int
) -> None:
    """After random transfers in several blocks the supply is unchanged and proposer and verifier have one root."""
    one, other = builders.Chain(), builders.Chain()
    supply = bank.supply(one.state)
    sequences = [0] * 4
    size = len(transfers) // blocks + 1
    for start in range(0, max(len(transfers), 1), size):
        txs = []
        for sender, recipient, amount in transfers[start : start + size]:
            txs.append(
                builders.checked(sender, Send(builders.WALLETS[recipient].address, str(amount)), sequences[sender])
            )
            sequences[sender] += 1
        other.add(*txs)
        block = one.step(*txs)
        follow(builders, other, block)
        assert one.state.root == other.state.root
        # The first block restores the supply to the cap (height mod 10,000 = 1).
        supply = bank.supply(one.state) if block.header.height == 1 else supply
        assert bank.supply(one.state) == supply
    total = sum(amount for _, amount in bank.BALANCES.items(one.state))
    assert total == supply


def test_an_application_without_the_rules_of_a_block_neither_proposes_nor_verifies_it(builders: Any) -> None:
    """Up to the height both programs make the same blocks; there the old one raises and keeps the state it has, with which
    the new one goes on."""
    old, new = builders.Chain(newest_rules=1), builders.Chain()
    first, *others = (key.address for key in builders.NODES[:3])
    votes = [ProposeUpgrade(first, 2, 12), *(VoteUpgrade(other, 2, 12, approve=True) for other in others)]
    signed = [builders.checked(0, vote, sequence) for sequence, vote in enumerate(votes)]
    old.add(*signed)
    follow(builders, old, new.step(*signed))
    assert rulebook.plan(old.state) == rulebook.Plan(2, 12, 1)
    while new.application.height < 11:
        follow(builders, old, new.step())
    block = new.step()
    assert block.header.height == 12
    for attempt in (lambda: old.application.verify(block), lambda: old.application.propose(old.template())):
        with pytest.raises(rulebook.UnknownRules, match=r"version 2 holds from height 12 on .* rules version >= 2"):
            attempt()
    assert (old.application.height, rulebook.rules(old.state).version) == (11, 1)
    newer = builders.Chain(old.state)
    follow(builders, newer, block)
    assert rulebook.rules(newer.state) == rulebook.InForce(2, 12)
    assert newer.state.root == new.state.root
