"""At random times a holder must prove that it has a slice (protocol 7): one random piece, bound to a fresh nonce.

Every authority asks on its own; together about once per status interval. A holder that answers without proof (or says it
lacks the slice) is reported to the log; the others see the report there and ask the same holder for the same slice, so
that a quorum of findings is a quorum of challenges. A holder that does not answer is not judged here: silence is the
monitor's business. Blocking sockets in one thread, because an answer is 64 KiB from one place.
"""

import asyncio
import random
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import structlog
from blake3 import blake3
from msgspec import Struct

from stratos.crypto.keys import NodeKey, node_address, verify_node
from stratos.crypto.merkle import verify_merkle
from stratos.crypto.signing import sign_bytes
from stratos.meta.application import MetaApplication
from stratos.meta.entries import sign_entry
from stratos.meta.index import held_slices
from stratos.meta.intake import Intake
from stratos.meta.machine import get_clock
from stratos.meta.outbox import authorities
from stratos.meta.rooms import ACTIVE, HOLDER, POSSESSION, SLICE, Holder, u64
from stratos.net.peers import PeerUnreachable
from stratos.net.tls import server_key
from stratos.wire.codec import encode
from stratos.wire.config import ConfigError, split_endpoint
from stratos.wire.limits import MIB, PROOF_PIECE_BYTES
from stratos.wire.metalog import PossessionFailure, SliceSpec
from stratos.wire.rpc import PROTOCOL_VERSION
from stratos.wire.transfer import (
    FRAME_CONTROL,
    TAG_BULK_CHALLENGE,
    TAG_BULK_HELLO,
    TAG_POSSESSION,
    BulkChallenge,
    BulkError,
    BulkHello,
    BulkMessage,
    PossessionProof,
    ProvePossession,
)

HEADER = struct.Struct(">IB")
ANSWER_SECONDS = 10.0
LACKS_SLICE = -6
"""Error code of a holder that does not have (or cannot read) the slice."""

M = TypeVar("M", bound=Struct)
_decoder = msgspec.msgpack.Decoder(BulkMessage)
_log = structlog.get_logger("stratos.meta.possession")


class NotJudged(Exception):
    """The holder could not be asked; that proves nothing."""


def possession_fault(
    proof: PossessionProof, *, spec: SliceSpec, piece: int, nonce: bytes, holder_key: bytes, genesis_hash: bytes
) -> str:
    """Why an answer proves nothing, or "" when it proves possession. Pure."""
    count = -(-spec.length // PROOF_PIECE_BYTES)
    expected = min(PROOF_PIECE_BYTES, spec.length - piece * PROOF_PIECE_BYTES)
    if proof.count != count or len(proof.piece_bytes) != expected:
        return f"{len(proof.piece_bytes)} bytes of {proof.count} pieces were answered, wanted {expected} of {count}"
    piece_hash = blake3(proof.piece_bytes).digest()
    if not verify_merkle(spec.digest, piece_hash, piece, count, proof.path):
        return "the piece is not the one the placement committed to"
    message = sign_bytes(TAG_POSSESSION, genesis_hash, nonce + piece_hash)
    return "" if verify_node(holder_key, message, proof.signature) else "the answer is not signed by the holder"


def challenge(
    holder: Holder,
    spec: SliceSpec,
    *,
    key: NodeKey,
    genesis_hash: bytes,
    tls: ssl.SSLContext | None,
    piece: int,
    nonce: bytes,
) -> str:
    """Ask one holder for one piece: "" when it is proven, else what is wrong; NotJudged when it cannot be asked."""
    try:
        host, port = split_endpoint(holder.network_address)
        raw = socket.create_connection((host, port), timeout=ANSWER_SECONDS)
    except (OSError, ConfigError) as error:
        raise NotJudged(str(error)) from error
    try:
        proved = None
        if tls is not None:
            raw = tls.wrap_socket(raw, server_hostname=None)
            proved = server_key(raw)
        raw.settimeout(ANSWER_SECONDS)
        opening = _expect(raw, BulkChallenge)
        if (proved is not None and proved != opening.public_key) or node_address(opening.public_key) != holder.address:
            raise NotJudged("another node answers at this address")
        signed = sign_bytes(TAG_BULK_HELLO, genesis_hash, opening.nonce + opening.public_key)
        _send(raw, BulkHello(PROTOCOL_VERSION, genesis_hash, key.public_key, key.sign(signed)))
        _send(raw, ProvePossession(spec.digest, piece, nonce))
        if not verify_node(
            opening.public_key, sign_bytes(TAG_BULK_CHALLENGE, genesis_hash, opening.nonce), opening.signature
        ):
            raise NotJudged("the node did not prove its key")
        answer = _receive(raw)
        if isinstance(answer, BulkError):
            if answer.code != LACKS_SLICE:
                raise NotJudged(answer.error)
            return answer.error
        if not isinstance(answer, PossessionProof):
            return f"{type(answer).__name__} was answered"
        return possession_fault(
            answer, spec=spec, piece=piece, nonce=nonce, holder_key=holder.public_key, genesis_hash=genesis_hash
        )
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, PeerUnreachable) as error:
        raise NotJudged(str(error)) from error
    finally:
        raw.close()


def _send(raw: socket.socket, message: Struct) -> None:
    body = encode(message)
    raw.sendall(HEADER.pack(len(body), FRAME_CONTROL) + body)


def _expect(raw: socket.socket, kind: type[M]) -> M:
    message = _receive(raw)
    if not isinstance(message, kind):
        raise NotJudged(f"{type(message).__name__} where {kind.__name__} belongs")
    return message


def _receive(raw: socket.socket) -> BulkMessage:
    length, kind = HEADER.unpack(_exactly(raw, HEADER.size))
    if kind != FRAME_CONTROL or not 1 <= length <= MIB:
        raise NotJudged(f"frame of kind {kind} and {length} bytes")
    message: BulkMessage = _decoder.decode(_exactly(raw, length))
    return message


def _exactly(raw: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = raw.recv(min(count - len(parts), 1 << 16))
        if not part:
            raise NotJudged("the holder closed the connection")
        parts += part
    return bytes(parts)


class Challenger:
    """One authority's challenges; `run` is an eternal task."""

    def __init__(
        self,
        *,
        application: MetaApplication,
        intake: Intake,
        key: NodeKey,
        tls: ssl.SSLContext | None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        chance: random.Random | None = None,
    ) -> None:
        self.asked = 0
        """Challenges answered or judged by this process."""
        self.failed = 0
        self._app = application
        self._intake = intake
        self._key = key
        self._tls = tls
        self._wall_ms = wall_ms
        self._chance = chance or random.SystemRandom()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="possession")
        self._told: set[bytes] = set()
        """Findings of others in this epoch that this authority has looked at."""

    async def run(self) -> None:
        """Challenge at random times, and at once what another authority has found missing."""
        loop = asyncio.get_running_loop()
        interval = self._app.genesis.meta.status_seconds * max(1, len(authorities(self._app.state)))
        due = loop.time() + self._chance.uniform(0.5, 1.5) * interval
        while True:
            found = self._reported()
            if found is not None:
                await self._ask(*found)
                continue
            if loop.time() >= due:
                picked = self._picked()
                if picked is not None:
                    await self._ask(*picked)
                due = loop.time() + self._chance.uniform(0.5, 1.5) * interval
            try:
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self._intake.next_block()
            except TimeoutError:
                pass

    def close(self) -> None:
        """Ask nobody any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _reported(self) -> tuple[Holder, SliceSpec] | None:
        """What another authority found in this epoch and this one has not looked at."""
        state = self._app.state
        epoch = u64(get_clock(state).epoch)
        self._told = {key for key in self._told if key[:8] == epoch}
        for key, found in POSSESSION.items(state, epoch):
            if key in self._told or self._key.address in found:
                continue
            self._told.add(key)
            holder, record = HOLDER.get(state, key[8:28]), SLICE.get(state, key[28:])
            if holder is not None and record is not None and holder.address in record.holders:
                return holder, record.spec
        return None

    def _picked(self) -> tuple[Holder, SliceSpec] | None:
        """A random slice of a random active holder."""
        state = self._app.state
        active = [holder for _, holder in HOLDER.items(state) if holder.status == ACTIVE]
        if not active:
            return None
        holder = self._chance.choice(active)
        held = held_slices(state, holder.address)
        record = SLICE.get(state, self._chance.choice(held)) if held else None
        return (holder, record.spec) if record is not None else None

    async def _ask(self, holder: Holder, spec: SliceSpec) -> None:
        piece = self._chance.randrange(-(-spec.length // PROOF_PIECE_BYTES))
        loop = asyncio.get_running_loop()
        try:
            fault = await loop.run_in_executor(
                self._thread,
                lambda: challenge(
                    holder,
                    spec,
                    key=self._key,
                    genesis_hash=self._app.genesis_hash,
                    tls=self._tls,
                    piece=piece,
                    nonce=secrets.token_bytes(16),
                ),
            )
        except NotJudged as error:
            _log.debug("holder not judged", holder=holder.address.hex(), reason=str(error))
            return
        self.asked += 1
        if not fault:
            return
        self.failed += 1
        _log.warning("possession not proven", holder=holder.address.hex(), slice=spec.digest.hex(), reason=fault)
        entry = sign_entry(
            PossessionFailure(holder.address, spec.digest),
            key=self._key,
            genesis_hash=self._app.genesis_hash,
            nonce=secrets.token_bytes(16),
            time_ms=self._wall_ms(),
        )
        try:
            await self._intake.submit(encode(entry))
        except TimeoutError:
            return
