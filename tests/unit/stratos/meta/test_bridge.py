"""The bridge takes chain blocks one by one, with proof, and what they say takes effect exactly once."""

from msgspec import structs

from stratos.crypto.keys import NodeKey
from stratos.ledger.events import event
from stratos.meta.rehearsal import STOS, Rehearsal, seed_bytes
from stratos.meta.rooms import AUTHORITY, BALANCE, CHAIN_HEIGHT, HOLDER, TOTALS
from stratos.wire.block import Event, Validator
from stratos.wire.metalog import ChainBlock, Entry


def bought(wallet: bytes, noz: int) -> Event:
    return event("ozone_bought", beneficiary=wallet, noz=noz, sender=wallet, amount=1)


def node_event(kind: str, key: NodeKey, deposit: int = STOS) -> Event:
    return event(
        kind, node=key.address, public_key=key.public_key, owner=b"o" * 20, beneficiary=b"b" * 20,
        host="h", network_address="127.0.0.1:1", name="new", deposit=deposit,
    )  # fmt: skip


def tampered(net: Rehearsal, entry: Entry, **changes: object) -> Entry:
    """The same chain block with fields of its record changed, signed again by an authority."""
    body = entry.request.body
    assert isinstance(body, ChainBlock)
    return net.entry(structs.replace(body, **changes), net.authorities[0])


def test_ozone_bought_is_credited_once(net: Rehearsal) -> None:
    """A prepay on the chain credits its beneficiary; the same block again is refused."""
    wallet = b"n" * 20
    entry = net.chain(bought(wallet, 77))
    again = net.chain(bought(wallet, 77), author=net.authorities[1])
    net.run(entry)
    assert BALANCE.get(net.state, wallet) == 77
    assert net.refused(again) == "order"
    assert BALANCE.get(net.state, wallet) == 77


def test_heights_are_consecutive(net: Rehearsal) -> None:
    """A block that is not the next one is refused."""
    assert net.refused(net.chain(height=2)) == "order"
    net.run(net.chain())
    assert CHAIN_HEIGHT.get(net.state) == 1


def test_several_blocks_in_one_meta_block(net: Rehearsal) -> None:
    """Chain blocks of one meta block are executed by height, whatever order they came in."""
    net.run(net.chain(height=2), net.chain(bought(b"n" * 20, 5), height=1))
    assert CHAIN_HEIGHT.get(net.state) == 2 and BALANCE.get(net.state, b"n" * 20) == 5


def test_only_authorities_bring_chain_blocks(net: Rehearsal) -> None:
    """A holder's chain block is refused, however right."""
    assert net.refused(net.chain(author=net.holders[0])) == "authority"


def test_a_block_without_proof_is_refused(net: Rehearsal) -> None:
    """Other events, another header, a forged or empty certificate, uncalled-for voters: each refused as `chain`."""
    entry = net.chain(bought(b"n" * 20, 77))
    body = entry.request.body
    assert isinstance(body, ChainBlock)
    stranger = NodeKey(seed_bytes("stranger"))
    forged = structs.replace(body.commit.signatures[0], signature=stranger.sign(b"x"))
    voters = (Validator(stranger.address, stranger.public_key, 1),)
    for changes in (
        {"events": (bought(b"n" * 20, 78),)},
        {"events": ()},
        {"header": structs.replace(body.header, time_ms=body.header.time_ms + 1)},
        {"header": structs.replace(body.header, genesis_hash=b"g" * 32)},
        {"commit": structs.replace(body.commit, signatures=(forged,))},
        {"commit": structs.replace(body.commit, signatures=())},
        {"next_validators": voters},
    ):
        assert net.refused(tampered(net, entry, **changes)) == "chain"
    net.run(entry)


def test_a_new_holder_is_known_but_gets_no_work(net: Rehearsal) -> None:
    """A registered node is suspended until it has reported and the chain has made its deposit effective."""
    key = NodeKey(seed_bytes("new holder"))
    net.run(net.chain(node_event("resource_created", key)))
    record = HOLDER.get(net.state, key.address)
    assert record is not None and record.status == "suspended"


def test_authorities_change_two_blocks_later(net: Rehearsal) -> None:
    """A meta node admitted in the chain block of meta block h votes from h+2, a removed one no longer."""
    key = NodeKey(seed_bytes("new authority"))
    before = net.validators
    net.run(net.chain(node_event("meta_created", key)))
    authority = AUTHORITY.get(net.state, key.address)
    assert authority is not None and not authority.active
    net.run(net.chain(event("meta_admitted", node=key.address)))
    assert net.validators == before and key.address in {v.address for v in net.next_validators}
    net.run(net.chain(event("meta_removed", node=net.authorities[3].address, reason="kicked")))
    assert len(net.validators) == 5 and len(net.next_validators) == 4
    header = net.blocks[-1][0].header
    assert header.validators_hash == before.hash and header.next_validators_hash == net.validators.hash


def test_a_leavers_fee_fills_the_repair_reserve(net: Rehearsal) -> None:
    """`repair_credited` is ozone sold to the repair reserve."""
    sold = TOTALS.get(net.state, b"sold")
    net.run(net.chain(event("repair_credited", noz=500, node=net.holders[0].address)))
    assert TOTALS.get(net.state, b"repair") == 500 and TOTALS.get(net.state, b"sold") == sold + 500
