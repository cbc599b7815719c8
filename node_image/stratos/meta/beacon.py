"""The epoch beacon: chance nobody can choose (protocol 7).

For epoch e every authority commits to a secret in e-2 and reveals it in e-1. The beacon of e is the hash of the one
before and of all secrets revealed in time. Who does not reveal, for whatever reason, gets no meta share in e
(`withheld` in the report), so staying silent to steer the outcome costs more than it bends. Authorities younger than e-2, and
epochs whose windows the log jumped over, are excused.
"""

from blake3 import blake3

from stratos.meta.context import BlockContext
from stratos.meta.errors import MetaError
from stratos.meta.outbox import authorities
from stratos.meta.rooms import AUTHORITY, BEACON, COMMITMENT, REVEAL, u64
from stratos.state import Branch, Reader
from stratos.wire.metalog import BeaconCommit, BeaconReveal

KEPT_EPOCHS = 16


def commitment_of(secret: bytes, epoch: int, authority: bytes) -> bytes:
    """What an authority commits to: its secret bound to epoch and author, so nobody can copy another's commitment."""
    return blake3(b"beacon" + secret + u64(epoch) + authority).digest()


def commit(branch: Branch, context: BlockContext, author: bytes, body: BeaconCommit) -> None:
    """A commitment for the epoch after the next."""
    _require_authority(branch, author)
    if body.epoch != context.epoch + 2:
        raise MetaError(
            "epoch", f"a commitment for epoch {body.epoch} came in {context.epoch}; commit for {context.epoch + 2} now"
        )
    key = u64(body.epoch) + author
    if COMMITMENT.get(branch, key) is not None:
        raise MetaError("duplicate", f"{author.hex()} has committed for epoch {body.epoch} already")
    COMMITMENT.set(branch, key, body.commitment)


def reveal(branch: Branch, context: BlockContext, author: bytes, body: BeaconReveal) -> None:
    """The secret for the next epoch."""
    _require_authority(branch, author)
    if body.epoch != context.epoch + 1:
        raise MetaError(
            "epoch", f"a secret for epoch {body.epoch} came in {context.epoch}; reveal that of {context.epoch + 1} now"
        )
    key = u64(body.epoch) + author
    if REVEAL.get(branch, key) is not None:
        raise MetaError("duplicate", f"{author.hex()} has revealed for epoch {body.epoch} already")
    if COMMITMENT.get(branch, key) != commitment_of(body.secret, body.epoch, author):
        raise MetaError("invalid", f"the secret of {author.hex()} for epoch {body.epoch} is not what it committed to")
    REVEAL.set(branch, key, body.secret)


def roll(branch: Branch, context: BlockContext, *, epoch: int, previous: int) -> None:
    """Fix the beacon of the epoch that begins; `previous` is the one that ended."""
    before = BEACON.get(branch, u64(previous)) or context.genesis_hash
    secrets = b"".join(secret for _, secret in REVEAL.items(branch, u64(epoch)))
    BEACON.set(branch, u64(epoch), blake3(before + u64(epoch) + secrets).digest())
    for table in (COMMITMENT, REVEAL, BEACON):
        for key, _ in list(branch.items(table.prefix)):
            if int.from_bytes(key[len(table.prefix) : len(table.prefix) + 8], "big") + KEPT_EPOCHS < epoch:
                branch.delete(key)


def withheld(reader: Reader, epoch: int) -> tuple[bytes, ...]:
    """Authorities that lose their meta share of `epoch`."""
    if epoch < 3 or any(BEACON.get(reader, u64(e)) is None for e in (epoch - 1, epoch - 2, epoch)):
        return ()
    return tuple(
        authority.address
        for authority in authorities(reader)
        if authority.since_epoch + 2 < epoch and REVEAL.get(reader, u64(epoch) + authority.address) is None
    )


def _require_authority(reader: Reader, author: bytes) -> None:
    authority = AUTHORITY.get(reader, author)
    if authority is None or not authority.active:
        raise MetaError("authority", f"{author.hex()} is not an active meta node; only authorities feed the beacon")
