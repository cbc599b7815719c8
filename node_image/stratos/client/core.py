"""What all operations of one client share: keys, the way to the meta layer, to holders, the ledger file, the clock.

One ed25519 key per client serves as session key and as identity on every connection, so connections outlive sessions.
The directory of holders comes from the meta layer and is refreshed when a holder is unknown or cannot be reached.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from stratos.client.due_receipts import DueReceipts
from stratos.client.errors import ClientError, NotEnoughOzone, NotFound, Refused, Unreachable
from stratos.client.ledgerfile import LedgerFile, OperationLine
from stratos.client.records import Endpoints
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.meta.epochs import epoch_at
from stratos.net.peers import RpcRefused
from stratos.resource.link import LinkPool
from stratos.resource.metalink import EntryRefused, MetaEndpoint, MetaLink, MetaUnreachable
from stratos.resource.services import Buffers
from stratos.resource.tokens import AuthorityTrust
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.metalog import EntryBody, HolderInfo
from stratos.wire.metarpc import EntryOutcome, GetNetwork, Network

R = TypeVar("R", bound=Struct)
WORKERS = 24
HASHERS = 2
CALLERS = 8
DIRECTORY_SECONDS = 5.0
KNOWN_TREES = 256
FIND_PAUSES = (0.05, 0.1, 0.2)
SUSPECT_SECONDS = 10.0
NOT_FOUND_CODES = frozenset({"file", "upload", "slice", "not_found", "unknown"})


class Core:
    """Shared parts of one client. Thread-safe."""

    def __init__(
        self,
        genesis: Genesis,
        endpoints: Endpoints,
        wallet: WalletKey,
        *,
        ledger_dir: Path | None,
        deadline_seconds: float,
    ) -> None:
        self.genesis = genesis
        self.genesis_hash = genesis_hash(genesis)
        self.endpoints = endpoints
        self.wallet = wallet
        self.key = NodeKey.generate()
        self.deadline_seconds = deadline_seconds
        try:
            self.meta = MetaLink(
                [MetaEndpoint(node.name, node.rpc, bytes.fromhex(node.public_key)) for node in endpoints.meta],
                identity=self.key,
                genesis_hash=self.genesis_hash,
                deadline_seconds=deadline_seconds,
            )
        except MetaUnreachable as error:
            raise Unreachable(error.sentence) from error
        self.trust = AuthorityTrust(genesis, self.genesis_hash, self.meta.set_changes)
        self.links = LinkPool(
            identity=self.key,
            genesis_hash=self.genesis_hash,
            transport=endpoints.slice_transport,
            now=time.monotonic,
        )
        self.buffers = Buffers()
        self.workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="stratos-client")
        self.callers = ThreadPoolExecutor(CALLERS, thread_name_prefix="stratos-call")
        self.hashers = ThreadPoolExecutor(HASHERS, thread_name_prefix="stratos-hash")
        self.ledger = LedgerFile(ledger_dir, f"client-{self.key.address.hex()[:12]}-{os.getpid()}")
        self.trees = Trees()
        self.suspects = Suspects()
        self.due_receipts = DueReceipts(genesis, self.now_ms)
        self._lock = threading.Lock()
        self._holders: dict[bytes, HolderInfo] = {}
        self._holders_at = 0.0

    # -- time

    def now_ms(self) -> int:
        """Wall clock, milliseconds."""
        return time.time_ns() // 1_000_000

    def epoch(self) -> int:
        """The epoch of the meta layer, by its rule and our clock."""
        return epoch_at(self.genesis, self.now_ms())

    @property
    def token_age_ms(self) -> int:
        """How old holders let evidence be (one epoch)."""
        return round(self.genesis.meta.epoch_seconds * 1000)

    # -- the meta layer

    def ask(
        self,
        request: Struct,
        kind: type[R],
        *,
        deadline_seconds: float | None = None,
        doubt: Callable[[R], str] | None = None,
        passing: int = 0,
    ) -> R:
        """A read; raises NotFound, Refused or Unreachable. An answer that `doubt` finds fault with is asked of others, and
        so is one that the first `passing` nodes have given already."""
        try:
            return self.meta.call(request, kind, deadline_seconds=deadline_seconds, doubt=doubt, passing=passing)
        except RpcRefused as error:
            raise refusal(error.code, error.sentence) from error
        except MetaUnreachable as error:
            raise Unreachable(error.sentence) from error

    def find(self, request: Struct, kind: type[R], *, doubt: Callable[[R], str] | None = None) -> R:
        """A read of something that may have been written by somebody else a moment ago: a meta node that is a block behind,
        or many, does not know it yet, so NotFound is believed only when one node after the other says it."""
        for passing, pause in enumerate(FIND_PAUSES):
            try:
                return self.ask(request, kind, doubt=doubt, passing=passing)
            except NotFound:
                time.sleep(pause)
        return self.ask(request, kind, doubt=doubt, passing=len(FIND_PAUSES))

    def order(
        self, body: EntryBody, *, key: WalletKey | NodeKey | None = None, deadline_seconds: float | None = None
    ) -> tuple[EntryOutcome, bytes]:
        """Have the meta layer order an entry (signed by the session key unless told); raises Refused or Unreachable."""
        try:
            return self.meta.submit(body, key=key or self.key, deadline_seconds=deadline_seconds)
        except EntryRefused as error:
            raise refusal(error.code, error.sentence) from error
        except MetaUnreachable as error:
            raise Unreachable(error.sentence) from error

    # -- holders

    def holder(self, address: bytes) -> HolderInfo | None:
        """What the meta layer says of a holder, None when it knows none."""
        with self._lock:
            found = self._holders.get(address)
            fresh = time.monotonic() - self._holders_at < DIRECTORY_SECONDS
        if found is not None and fresh:
            return found
        return self.directory().get(address, found)

    def directory(self) -> dict[bytes, HolderInfo]:
        """All holders, asked for anew."""
        network = self.ask(GetNetwork(), Network)
        holders = {info.address: info for info in network.holders}
        with self._lock:
            self._holders = holders
            self._holders_at = time.monotonic()
        return holders

    def holder_count(self) -> int:
        """Active holders by what is known now."""
        with self._lock:
            holders = list(self._holders.values())
        holders = holders or list(self.directory().values())
        return sum(1 for info in holders if info.status == "active")

    def endpoint(self, address: bytes) -> str:
        """host:port of a holder's slice port; an unknown holder gives an address that cannot be dialled."""
        info = self.holder(address)
        return info.network_address if info is not None else "unknown:0"

    # -- the ledger

    def note(
        self, op: str, *, started: float, ok: bool = True, error: BaseException | None = None, **fields: object
    ) -> None:
        """Write one operation line."""
        self.ledger.write(
            OperationLine(
                time_ms=self.now_ms(),
                op=op,
                wallet=self.wallet.address.hex(),
                ok=ok and error is None,
                epoch=self.epoch(),
                seconds=round(time.monotonic() - started, 6),
                error="" if error is None else str(error)[:500],
                **fields,  # type: ignore[arg-type]
            )
        )

    def close(self) -> None:
        """Close connections, threads and the ledger file."""
        self.due_receipts.close()
        self.callers.shutdown(wait=True, cancel_futures=True)
        self.workers.shutdown(wait=True, cancel_futures=True)
        self.hashers.shutdown(wait=True, cancel_futures=True)
        self.links.close()
        self.meta.close()
        self.ledger.close()


class Trees:
    """Verified piece hashes of slices read lately, so that later ranges need no proof. Thread-safe, bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()

    def get(self, digest: bytes) -> tuple[bytes, ...] | None:
        """All piece hashes of a slice, if known."""
        with self._lock:
            found = self._known.get(digest)
            if found is not None:
                self._known.move_to_end(digest)
            return found

    def put(self, digest: bytes, hashes: tuple[bytes, ...]) -> None:
        """Remember all piece hashes of a slice, verified against its root."""
        with self._lock:
            self._known[digest] = hashes
            while len(self._known) > KNOWN_TREES:
                self._known.popitem(last=False)


class Suspects:
    """Holders that failed a moment ago: they are asked after the others, so that one dead holder is waited for once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[bytes, float] = {}

    def add(self, holder: bytes) -> None:
        """It failed now."""
        with self._lock:
            self._until[holder] = time.monotonic() + SUSPECT_SECONDS

    def last(self, order: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """(place in the serving order, holder), suspects moved to the end."""
        now = time.monotonic()
        with self._lock:
            suspects = {holder for holder, until in self._until.items() if until > now}
        return sorted(enumerate(order), key=lambda each: (each[1] in suspects, each[0]))


def refusal(code: str, sentence: str) -> ClientError:
    """The client's error for a refusal of the meta layer."""
    if code in NOT_FOUND_CODES:
        return NotFound(sentence)
    if code == "funds":
        return NotEnoughOzone(f"{sentence}; buy ozone with `stratosctl prepay AMOUNT`")
    return Refused(sentence, code)
