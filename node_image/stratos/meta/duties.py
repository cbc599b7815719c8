"""An authority's own entries: signatures under what the log has decided, and its part of the beacon.

Everything here follows from committed state, so an authority signs only what it has executed itself. Beacon secrets are on
disk, readable by nobody else, before their commitment leaves: a node killed in between can still reveal. What was
submitted but not ordered is submitted again after a while.
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from stratos.crypto.keys import NodeKey
from stratos.crypto.signing import sign_bytes
from stratos.meta.application import MetaApplication
from stratos.meta.beacon import commitment_of
from stratos.meta.entries import sign_entry
from stratos.meta.intake import Intake
from stratos.meta.machine import get_clock
from stratos.meta.outbox import in_flight
from stratos.meta.rooms import AUTHORITY, COMMITMENT, REVEAL, u64
from stratos.wire.codec import encode
from stratos.wire.metalog import ActionSignature, BeaconCommit, BeaconReveal, EntryBody
from stratos.wire.txs import TAG_ACTION

AGAIN_SECONDS = 5.0
KEPT_SECRETS = 16

_log = structlog.get_logger("stratos.meta.duties")


class BeaconSecrets:
    """Epoch -> secret, in a file with mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secrets: dict[int, bytes] = {}
        if path.exists():
            self._secrets = {int(epoch): bytes.fromhex(text) for epoch, text in json.loads(path.read_text()).items()}

    def get(self, epoch: int) -> bytes | None:
        """The secret of an epoch, None when this node never committed to one."""
        return self._secrets.get(epoch)

    def make(self, epoch: int) -> bytes:
        """The secret of an epoch, made and synced now when there is none."""
        known = self._secrets.get(epoch)
        if known is not None:
            return known
        secret = self._secrets[epoch] = secrets.token_bytes(32)
        for old in [e for e in self._secrets if e + KEPT_SECRETS < epoch]:
            del self._secrets[old]
        fresh = self._path.with_name(f".{self._path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({str(e): s.hex() for e, s in sorted(self._secrets.items())}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        return secret


class Duties:
    """Looks after each commit at what this authority owes the log."""

    def __init__(
        self,
        *,
        application: MetaApplication,
        intake: Intake,
        key: NodeKey,
        secrets_path: Path,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._app = application
        self._intake = intake
        self._key = key
        self._secrets = BeaconSecrets(secrets_path)
        self._wall_ms = wall_ms
        self._sent: dict[tuple[str, int], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def committed(self) -> None:
        """The log has grown: do what has become due."""
        state = self._app.state
        own = AUTHORITY.get(state, self._key.address)
        if own is None or not own.active:
            return
        for action in in_flight(state):
            if all(address != self._key.address for address, _ in action.signatures):
                message = sign_bytes(TAG_ACTION, self._app.genesis_hash, action.message)
                self._send("action", action.id, lambda a=action.id, m=message: ActionSignature(a, self._key.sign(m)))  # type: ignore[misc]
        epoch = get_clock(state).epoch
        if COMMITMENT.get(state, u64(epoch + 2) + self._key.address) is None:
            self._send("commit", epoch + 2, lambda: self._commitment(epoch + 2))
        secret = self._secrets.get(epoch + 1)
        if (
            secret is not None
            and COMMITMENT.get(state, u64(epoch + 1) + self._key.address) is not None
            and REVEAL.get(state, u64(epoch + 1) + self._key.address) is None
        ):
            self._send("reveal", epoch + 1, lambda: BeaconReveal(epoch + 1, secret))

    def _commitment(self, epoch: int) -> BeaconCommit:
        return BeaconCommit(epoch, commitment_of(self._secrets.make(epoch), epoch, self._key.address))

    def _send(self, kind: str, number: int, make: Callable[[], EntryBody]) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._sent.get((kind, number), -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        self._sent[kind, number] = now
        for old in [key for key, when in self._sent.items() if now - when > 100 * AGAIN_SECONDS]:
            del self._sent[old]
        task = asyncio.get_running_loop().create_task(self._submit(kind, number, make()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit(self, kind: str, number: int, body: EntryBody) -> None:
        entry = sign_entry(
            body,
            key=self._key,
            genesis_hash=self._app.genesis_hash,
            nonce=secrets.token_bytes(16),
            time_ms=self._wall_ms(),
        )
        try:
            outcome = await self._intake.submit(encode(entry))
        except TimeoutError:
            return
        if outcome.result.code not in ("ok", "duplicate", "epoch", "action"):
            _log.warning(
                "duty refused", duty=kind, number=number, code=outcome.result.code, reason=outcome.result.error
            )
