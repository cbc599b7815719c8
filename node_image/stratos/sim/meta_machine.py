"""The meta layer's real application on a simulated node: machine, state and pool; only the disk is memory."""

from functools import lru_cache

from stratos.bft.events import Application
from stratos.bft.validator_set import ValidatorSet
from stratos.meta.application import MetaApplication
from stratos.meta.entries import decode_entry, entry_hash, verify_entry
from stratos.meta.errors import MetaError
from stratos.meta.machine import MetaMachine
from stratos.meta.pool import PooledEntry, PoolFull
from stratos.sim.cluster import verify_once
from stratos.state import State
from stratos.wire.block import Block
from stratos.wire.genesis import Genesis


@lru_cache(maxsize=65_536)
def check_entry_once(raw: bytes, genesis_hash: bytes) -> PooledEntry | None:
    """The entry when its author's signature is right; the same for all nodes."""
    try:
        entry = decode_entry(raw)
    except MetaError:
        return None
    return PooledEntry(entry_hash(raw), raw, entry) if verify_entry(entry, genesis_hash) else None


class MetaLog:
    """One authority's `MetaApplication`."""

    def __init__(self, genesis: Genesis, genesis_hash: bytes, machine: type[MetaMachine]) -> None:
        self._genesis = genesis
        self._genesis_hash = genesis_hash
        self._machine = machine
        self.state = State()
        self._app = self._open(0)
        self.validators: ValidatorSet = self._app.genesis_validators()

    @property
    def application(self) -> Application:
        return self._app

    @property
    def state_root(self) -> bytes:
        return self.state.root

    def _open(self, height: int) -> MetaApplication:
        app = MetaApplication(
            self._genesis, genesis_hash=self._genesis_hash, verify=verify_once, state=self.state, height=height
        )
        app.machine = self._machine(self._genesis, self._genesis_hash, app.signatures)
        return app

    def offer(self, entry: bytes) -> None:
        pooled = check_entry_once(entry, self._genesis_hash)
        if pooled is None:
            return
        try:
            self._app.submit(pooled)
        except PoolFull:
            return

    def has_work(self) -> bool:
        return self._app.has_work()

    def prepare(self, block: Block) -> None:
        for raw in block.entries:
            pooled = check_entry_once(raw, self._genesis_hash)
            if pooled is not None:
                self._app.prepared(pooled)

    def restart(self, stored_height: int) -> None:
        self._app = self._open(stored_height)
