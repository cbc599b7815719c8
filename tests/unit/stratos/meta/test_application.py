"""Blocks of the log: what is refused is never ordered, and every node reaches the same roots."""

import pytest
from msgspec import structs

from stratos.bft.blocks import entries_root
from stratos.crypto.keys import NodeKey, verify_node
from stratos.meta.application import VerifiedSignatures
from stratos.meta.entries import sign_entry
from stratos.meta.errors import MetaError
from stratos.meta.machine import get_clock
from stratos.meta.pool import EntryPool, PoolFull
from stratos.meta.rehearsal import Rehearsal, seed_bytes
from stratos.meta.rooms import nonce_room
from stratos.wire.codec import encode
from stratos.wire.metalog import NodeStatus, OpenSession


def status(net: Rehearsal, key: NodeKey) -> bytes:
    return encode(net.entry(NodeStatus(1, 0, 0, False, "", ""), key))


def test_refused_entries_are_not_in_blocks(net: Rehearsal) -> None:
    """The proposer leaves out what the state refuses, and the block of the rest is accepted."""
    good = net.entry(NodeStatus(1, 0, 0, False, "", ""), net.holders[0])
    bad = net.entry(OpenSession(net.holders[0].public_key, 2**62, 0, net.time_ms + 1000), net.users[0])
    results = net.step(bad, good)
    assert [result.code for result in results] == ["funds", "ok"]
    assert len(net.blocks[-1][0].entries) == 1


def test_a_block_with_a_refused_entry_is_invalid(net: Rehearsal) -> None:
    """A replica does not vote for a block that carries what its state refuses, or what nobody signed."""
    net.step()
    block = net.blocks[-1][0]
    template = structs.replace(block.header, height=net.app.height + 1, time_ms=net.time_ms + 100)
    stranger = NodeKey(seed_bytes("stranger"))
    unknown = encode(net.entry(NodeStatus(1, 0, 0, False, "", ""), stranger))
    forged = encode(structs.replace(net.entry(NodeStatus(1, 0, 0, False, "", ""), net.holders[0]), signature=b"x" * 64))
    for raw, why in ((unknown, "is refused"), (forged, "signature"), (b"junk", "not a valid")):
        header = structs.replace(template, entries_root=entries_root([raw]))
        refusal = net.twin.verify(structs.replace(block, header=header, entries=(raw,)))
        assert refusal is not None and why in refusal


def test_another_root_in_the_header_is_invalid(net: Rehearsal) -> None:
    """Each of the three roots is compared."""
    good = net.app.propose(_template(net))
    assert net.twin.verify(good) is None
    for field in ("state_root", "results_root", "bridge_root"):
        wrong = structs.replace(good, header=structs.replace(good.header, **{field: b"r" * 32}))
        refusal = net.twin.verify(wrong)
        assert refusal is not None and "root of block" in refusal


def _template(net: Rehearsal):  # type: ignore[no-untyped-def]
    from stratos.bft.events import BlockTemplate

    return BlockTemplate(
        layer="meta", genesis_hash=net.genesis_hash, height=net.app.height + 1, time_ms=net.time_ms + 100,
        previous_hash=net.last_hash, last_commit=net.last_commit, validators_hash=net.validators.hash,
        next_validators_hash=net.next_validators.hash, proposer=net.authorities[0].address,
    )  # fmt: skip


def test_replaying_the_log_gives_the_same_state(net: Rehearsal) -> None:
    """A node that starts from genesis and executes all blocks has the same root."""
    session, key = net.open(spread_noz=600)
    net.put(session, key, 1_000, 2_000)
    net.to_epoch(3)
    late = net.new_application()
    for block, commit in net.blocks:
        assert late.verify(block) is None
        late.commit(block, commit)
    assert late.state.root == net.state.root


def test_executing_twice_and_forgetting_changes_nothing(net: Rehearsal) -> None:
    """Proposals that are not committed leave no trace."""
    before = net.state.root
    net.app.pool.add(net.app.check(status(net, net.holders[0])))
    net.app.propose(_template(net))
    net.app.propose(structs.replace(_template(net), time_ms=net.time_ms + 500))
    assert net.state.root == before
    net.step()


def test_signatures_and_windows_are_checked(net: Rehearsal) -> None:
    """Wrong signatures, other networks, old and future entries, reused nonces: refused before ordering."""
    entry = net.entry(NodeStatus(1, 0, 0, False, "", ""), net.holders[0])
    with pytest.raises(MetaError, match="signature"):
        net.app.check(encode(structs.replace(entry, signature=b"y" * 64)))
    foreign = sign_entry(
        NodeStatus(1, 0, 0, False, "", ""),
        key=net.holders[0],
        genesis_hash=b"f" * 32,
        nonce=b"n" * 16,
        time_ms=net.time_ms,
    )
    with pytest.raises(MetaError, match="signature"):
        net.app.check(encode(foreign))
    net.run(entry)
    assert net.refused(entry) == "nonce"
    for shift, code in ((-601_000, "window"), (+60_000, "window"), (-599_000, "ok"), (+5_000, "ok")):
        shifted = sign_entry(
            NodeStatus(1, 0, 0, False, "", ""),
            key=net.holders[0],
            genesis_hash=net.genesis_hash,
            nonce=net.nonce(),
            time_ms=net.time_ms + shift,
        )
        assert net.app.trial(net.app.check(encode(shifted))).code == code


def test_nonces_are_forgotten_after_the_window(net: Rehearsal) -> None:
    """Two windows later nothing of a nonce is left, and its entry is too old to come back."""
    entry = net.entry(NodeStatus(1, 0, 0, False, "", ""), net.holders[0])
    net.run(entry)
    bucket = net.time_ms // 600_000
    assert any(True for _ in net.state.items(nonce_room(bucket)))
    for _ in range(4):
        net.step(seconds=600)
    for _ in range(3):
        net.step()
    assert not list(net.state.items(nonce_room(bucket)))
    assert net.refused(entry) == "window"


def test_the_verifier_checks_each_signature_once() -> None:
    """Good signatures are remembered, wrong ones are checked again and stay wrong."""
    key = NodeKey(seed_bytes("k"))
    verifier = VerifiedSignatures(verify_node)
    good = key.sign(b"m")
    assert all(verifier(key.public_key, b"m", good) for _ in range(3)) and verifier.checks == 1
    assert not any(verifier(key.public_key, b"n", good) for _ in range(2)) and verifier.checks == 3


def test_the_pool_is_bounded_and_remembers(net: Rehearsal) -> None:
    """Duplicates are no news, what was ordered is remembered, and a full pool refuses."""
    pool = EntryPool(max_entries=2)
    entries = [net.app.check(status(net, key)) for key in net.holders[:3]]
    assert pool.add(entries[0]) and not pool.add(entries[0])
    pool.add(entries[1])
    with pytest.raises(PoolFull):
        pool.add(entries[2])
    pool.ordered([entries[0].name])
    assert pool.seen(entries[0].name) and not pool.add(entries[0])
    assert pool.add(entries[2]) and pool.bytes == len(entries[1].raw) + len(entries[2].raw)


def test_lazy_entries_do_not_make_blocks(net: Rehearsal) -> None:
    """Heartbeats of active nodes and chain blocks without news wait for the next block, anything else does not."""
    net.app.submit(net.app.check(status(net, net.holders[0])))
    net.app.submit(net.app.check(encode(net.chain())))
    assert len(net.app.pool) == 2 and not net.app.has_work()
    body = OpenSession(net.holders[0].public_key, 10, 0, net.time_ms + 60_000)
    net.app.submit(net.app.check(encode(net.entry(body, net.users[0]))))
    assert net.app.has_work()
    net.step()
    assert len(net.app.pool) == 0 and get_clock(net.state).height == net.app.height
