"""A client with only the genesis set checks any header."""

import pytest
from msgspec import structs

from stratos.bft.light import LightClient, LightClientError
from stratos.crypto.keys import verify_node
from stratos.sim.tabletop import GENESIS_HASH, LAYER, Tabletop
from stratos.wire.block import CommittedBlock, ValidatorChange


def grown_chain() -> tuple[Tabletop, dict[int, CommittedBlock]]:
    """Ten blocks, in which a weight changes."""
    table = Tabletop()
    table.start()
    for seat in table.seats:
        seat.machine.offer(b"weight 1 2 0")
    table.advance(10.0, lambda: min(table.heights()) >= 10)
    return table, table.seats[0].blocks


def client(table: Tabletop) -> LightClient:
    return LightClient(layer=LAYER, genesis_hash=GENESIS_HASH, validators=table.validators, verify=verify_node)


def changes_of(table: Tabletop, blocks: dict[int, CommittedBlock]) -> list[ValidatorChange]:
    return [
        ValidatorChange(
            known.block.header, known.commit, table.seats[0].machine.validators_after(height - 1).validators
        )
        for height, known in blocks.items()
        if known.block.header.validators_hash != known.block.header.next_validators_hash
    ]


def test_follows_changes_to_the_newest_header() -> None:
    """Over the announced change, a header signed by the new set is believed."""
    table, blocks = grown_chain()
    changes = changes_of(table, blocks)
    assert len(changes) == 1
    light = client(table)
    light.follow(changes)
    light.check(blocks[10].block.header, blocks[10].commit)


def test_a_missing_change_is_noticed() -> None:
    """Who leaves a change out cannot pass a later header off."""
    table, blocks = grown_chain()
    with pytest.raises(LightClientError, match="a validator change between them is missing"):
        client(table).check(blocks[10].block.header, blocks[10].commit)


def test_other_successors_than_announced_are_refused() -> None:
    """The set that comes with a change must be the one its header names."""
    table, blocks = grown_chain()
    [change] = changes_of(table, blocks)
    with pytest.raises(LightClientError, match="announces"):
        client(table).follow([structs.replace(change, next_validators=table.validators.validators)])


def test_a_changed_header_is_refused() -> None:
    """A header with another state root has no certificate."""
    table, blocks = grown_chain()
    forged = structs.replace(blocks[1].block.header, state_root=b"\7" * 32)
    with pytest.raises(LightClientError, match="header 1"):
        client(table).check(forged, blocks[1].commit)
