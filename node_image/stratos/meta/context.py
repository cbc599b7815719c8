"""What one block knows beside the state: parameters, height, time, the certificate before it, and how to check a signature.

Made anew for every block and handed to every handler, so that no handler has another source of time or chance.
"""

from collections.abc import Callable

from msgspec import Struct

from stratos.bft.signing import Verifier
from stratos.wire.genesis import Genesis, MetaParams


class BlockContext(Struct, frozen=True):
    """One block's circumstances. `last_commit_hash` names the certificate of the block before (source of chance)."""

    genesis: Genesis
    genesis_hash: bytes
    verify: Verifier
    height: int
    time_ms: int
    witness_ms: int
    epoch: int
    last_commit_hash: bytes
    events: Callable[[str, tuple[tuple[str, str], ...]], None]
    """Records an event of the entry under way (kind, attributes)."""

    @property
    def params(self) -> MetaParams:
        """Parameters of the meta and resource layers."""
        return self.genesis.meta


def milliseconds(seconds: float) -> int:
    """A parameter in seconds as whole milliseconds."""
    return round(seconds * 1000)


def copy_cost(params: MetaParams, length: int) -> int:
    """What one copy of `length` bytes reserves: its traffic and its part of the repair reserve (protocol 7)."""
    return length + repair_share(params, length)


def repair_share(params: MetaParams, length: int) -> int:
    """The repair reserve's part of one copy."""
    return length * params.repair_reserve_bp // 10_000
