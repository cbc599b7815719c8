"""Asking the meta layer from threads: any node may answer, the next one is tried when one does not.

A request goes to the node that answered last; on silence or refusal for its own reasons the next one gets it, round and
round until the deadline. Submissions are signed once and repeated as the same bytes, which the log takes only once, so a
lost answer costs nothing. Answers carry the height they come from: one older than what this link has already seen is
asked for again, so a caller never sees its own change undone by failing over to a node that lags. Refusals carry no
height; one counts when the node has seen what this link has seen.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from blake3 import blake3
from msgspec import Struct

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes, wallet_digest
from stratos.net.blocking import BlockingRpcClient
from stratos.net.peers import Identity, PeerUnreachable, RpcError, RpcRefused, RpcTimeout
from stratos.wire.block import ValidatorChange
from stratos.wire.codec import encode
from stratos.wire.config import split_endpoint
from stratos.wire.limits import NONCE_BYTES
from stratos.wire.metalog import TAG_ENTRY, Entry, EntryBody, EntryRequest
from stratos.wire.metarpc import Balance, EntryOutcome, GetBalance, GetSetChanges, SetChanges, SubmitEntry
from stratos.wire.rpc import CLASS_CLIENT

R = TypeVar("R", bound=Struct)
TRY_SECONDS = 4.0
PAUSE_SECONDS = 0.05
MAX_ENDPOINTS = 256
OTHER_NODE_CODES = frozenset({"internal", "busy", "behind", "unavailable", "starting", "timeout", "pending"})
"""Refusals that say something about the node asked, not about the request."""
SEEN_BEFORE_CODES = frozenset({"nonce", "duplicate_entry", "replay"})
"""A repeated submission is answered so when its first copy has been ordered."""


class MetaUnreachable(Exception):
    """No meta node gave an answer within the deadline."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class EntryRefused(Exception):
    """The meta layer refused a log entry: machine-readable `code`, one sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class MetaEndpoint(Struct, frozen=True):
    """Where one meta node answers and who it is."""

    name: str
    endpoint: str
    public_key: bytes


def signed_entry(body: EntryBody, *, key: WalletKey | NodeKey, genesis_hash: bytes, time_ms: int) -> bytes:
    """Canonical bytes of a log entry, with a fresh nonce."""
    request = EntryRequest(body, os.urandom(NONCE_BYTES), time_ms, key.public_key)
    data = encode(request)
    if isinstance(key, WalletKey):
        signature = key.sign(wallet_digest(TAG_ENTRY, genesis_hash, data))
    else:
        signature = key.sign(sign_bytes(TAG_ENTRY, genesis_hash, data))
    return encode(Entry(request, signature))


def entry_name(entry: bytes) -> bytes:
    """Hash of an entry's bytes; its first 16 bytes name the session it opens."""
    return blake3(entry).digest()


class MetaLink:
    """Connections to all meta nodes, shared by threads."""

    def __init__(
        self,
        endpoints: Sequence[MetaEndpoint],
        *,
        identity: Identity,
        genesis_hash: bytes,
        peer_class: str = CLASS_CLIENT,
        deadline_seconds: float = 30.0,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        if not endpoints:
            raise MetaUnreachable("no meta node is known; is the testnet up?")
        self._endpoints = list(endpoints)
        self._identity = identity
        self._genesis_hash = genesis_hash
        self._peer_class = peer_class
        self._wall_ms = wall_ms
        self.deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._idle: dict[int, list[BlockingRpcClient]] = {}
        # Callers start at different nodes, so that reads spread over all of them.
        self._preferred = int.from_bytes(identity.public_key[:4], "big") % len(self._endpoints)
        self._seen_height = 0
        self._closed = False

    def call(
        self,
        request: Struct,
        kind: type[R],
        *,
        deadline_seconds: float | None = None,
        try_seconds: float = TRY_SECONDS,
        doubt: Callable[[R], str] | None = None,
        passing: int = 0,
    ) -> R:
        """The answer of type `kind` from any meta node; raises RpcRefused (the request is at fault) or MetaUnreachable.
        `doubt` says what is wrong with an answer, "" when nothing is: then the next node is asked. `passing` nodes are
        left for later, for a caller that has their answer and wants another's."""
        deadline = time.monotonic() + (self.deadline_seconds if deadline_seconds is None else deadline_seconds)
        reason, lie = "no meta node answered", ""
        turn = 0
        up_to_date: set[int] = set()
        with self._lock:
            least_height = self._seen_height
            first = self._preferred + passing
        while True:
            left = deadline - time.monotonic()
            if (left <= 0 and turn) or self._closed:
                raise MetaUnreachable(
                    f"{lie or reason}; {type(request).__name__} was tried for {self.deadline_seconds:g} s on all meta nodes"
                )
            index = (first + turn) % len(self._endpoints)
            # However short the deadline, a silent node leaves time for another.
            patience = min(try_seconds, left / 2 if len(self._endpoints) > 1 else left)
            try:
                answer = self._ask(index, request, kind, max(0.05, patience))
            except RpcRefused as error:
                reason = error.sentence
                if error.code not in OTHER_NODE_CODES:
                    if not least_height or index in up_to_date:
                        raise
                    if self._has_seen(index, least_height, max(0.05, patience)):
                        up_to_date.add(index)
                        continue
            except (PeerUnreachable, RpcTimeout) as error:
                reason = str(error)
                self._leave(index)
            else:
                doubted = doubt(answer) if doubt is not None else ""
                if doubted:
                    lie = f"{self._endpoints[index].name} is not believed: {doubted}"
                elif self._fresh(answer, least_height):
                    if turn or passing:
                        with self._lock:
                            self._preferred = index
                    return answer
                else:
                    reason = f"{self._endpoints[index].name} lags behind"
            turn += 1
            if turn % len(self._endpoints) == 0:
                time.sleep(min(PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))

    def submit(
        self, body: EntryBody, *, key: WalletKey | NodeKey, deadline_seconds: float | None = None
    ) -> tuple[EntryOutcome, bytes]:
        """Order an entry signed by `key`: (outcome, entry hash); raises EntryRefused or MetaUnreachable."""
        entry = signed_entry(body, key=key, genesis_hash=self._genesis_hash, time_ms=self._wall_ms())
        try:
            outcome = self.call(
                SubmitEntry(entry), EntryOutcome, deadline_seconds=deadline_seconds, try_seconds=2 * TRY_SECONDS
            )
        except RpcRefused as error:
            raise EntryRefused(error.code, error.sentence) from error
        if outcome.code != "ok" and outcome.code not in SEEN_BEFORE_CODES:
            raise EntryRefused(outcome.code, outcome.error)
        with self._lock:
            self._seen_height = max(self._seen_height, outcome.height)
        return outcome, entry_name(entry)

    def set_changes(self, from_height: int) -> list[ValidatorChange]:
        """Changes of the authority set after a height, unchecked."""
        answer = self.call(GetSetChanges(from_height), SetChanges)
        return [ValidatorChange(change.header, change.commit, change.next_validators) for change in answer.changes]

    def learn(self, endpoints: Sequence[MetaEndpoint]) -> int:
        """Ask these nodes too from now on; how many were not known."""
        with self._lock:
            known = {endpoint.public_key for endpoint in self._endpoints}
            new = [one for one in endpoints if one.public_key not in known]
            self._endpoints += new[: max(0, MAX_ENDPOINTS - len(self._endpoints))]
        return len(new)

    @property
    def seen_height(self) -> int:
        """Highest meta height any answer came from."""
        return self._seen_height

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            clients = [client for idle in self._idle.values() for client in idle]
            self._idle.clear()
        for client in clients:
            client.close()

    def _ask(self, index: int, request: Struct, kind: type[R], seconds: float) -> R:
        client = self._connection(index, seconds)
        try:
            return client.call(request, kind, timeout_seconds=seconds)
        finally:
            if not client.closed:
                with self._lock:
                    kept = not self._closed
                    if kept:
                        self._idle.setdefault(index, []).append(client)
                if not kept:
                    client.close()

    def _leave(self, index: int) -> None:
        """The next call begins elsewhere: it may have no time to wait for a silent node first."""
        with self._lock:
            if self._preferred == index:
                self._preferred = (index + 1) % len(self._endpoints)

    def _connection(self, index: int, seconds: float) -> BlockingRpcClient:
        with self._lock:
            idle = self._idle.get(index)
            if idle:
                return idle.pop()
        node = self._endpoints[index]
        host, port = split_endpoint(node.endpoint)
        return BlockingRpcClient(
            host,
            port,
            expected_key=node.public_key,
            identity=self._identity,
            peer_class=self._peer_class,
            genesis_hash=self._genesis_hash,
            timeout_seconds=min(seconds, TRY_SECONDS),
        )

    def _has_seen(self, index: int, height: int, seconds: float) -> bool:
        """Whether a node's answers come from this height or later."""
        try:
            return self._ask(index, GetBalance(bytes(20)), Balance, seconds).stamp.height >= height
        except RpcError:
            return False

    def _fresh(self, answer: Any, least_height: int) -> bool:
        stamp = getattr(answer, "stamp", None)
        if stamp is None:
            return True
        with self._lock:
            self._seen_height = max(self._seen_height, stamp.height)
        return bool(stamp.height >= least_height)
