"""What a block tells the ledger, and what the ledger tells the block.

The ledger has no clock: time is the block's, in milliseconds. `day_ms` of the rules turns it into days.
"""

from msgspec import Struct

from stratos.wire.block import Event, Validator


class BlockContext(Struct, frozen=True, kw_only=True):
    """One block: height, time, who proposed it, and who signed the one before it.

    `proposer` is empty and both tuples are empty where there is no consensus (replay, genesis).
    """

    height: int
    time_ms: int
    proposer: bytes = b""
    signed: tuple[bytes, ...] = ()
    missed: tuple[bytes, ...] = ()


class EndBlock(Struct, frozen=True, kw_only=True):
    """What the end of a block did: events, and the voters from two heights on."""

    events: tuple[Event, ...]
    validators: tuple[Validator, ...]
