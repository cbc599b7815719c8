"""Holders on real sockets, and a meta layer of four keys that sign real headers over a real state.

No meta node runs here: `Meta` keeps the authenticated map itself and certifies its root with its authorities' keys, so
every token that a test shows is verified by the very code a node runs.
"""

import os
import time
from pathlib import Path

from msgspec import Struct

from stratos.bft.blocks import header_hash
from stratos.bft.signing import vote_bytes
from stratos.crypto.keys import NodeKey
from stratos.net.tls import server_context
from stratos.resource.books import Books
from stratos.resource.link import BulkLink, LinkPool
from stratos.resource.pieces import SliceHashes
from stratos.resource.server import BulkServer
from stratos.resource.services import Buffers, Counters, Placements, Services
from stratos.resource.store import SliceStore
from stratos.resource.tokens import (
    AuthorityTrust,
    TokenVerifier,
    allotment_key,
    genesis_authorities,
    placement_key,
    repair_key,
    session_key,
)
from stratos.state.authmap import AuthMap
from stratos.wire.block import HEADER_VERSION, NIL_HASH, PRECOMMIT, Commit, Header, PrecommitSignature
from stratos.wire.codec import encode
from stratos.wire.genesis import Genesis, GenesisNode, MetaParams, genesis_hash
from stratos.wire.metalog import SESSION_OPEN, Allotment, PlacedSlice, Placement, RepairOrder, Session, SliceSpec
from stratos.wire.receipts import EMPTY_CHAIN
from stratos.wire.transfer import MetaEvidence, PlacementToken, RepairToken, SessionToken

EPOCH_SECONDS = 3600.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Meta:
    """Authorities and the state they certify."""

    def __init__(self) -> None:
        self.keys = [NodeKey(bytes([number]) * 32) for number in range(1, 5)]
        wallet = b"\x01" * 20
        self.genesis = Genesis(
            network="test",
            time_ms=now_ms() - 5_000,
            meta=MetaParams(epoch_seconds=EPOCH_SECONDS),
            meta_nodes=tuple(
                GenesisNode(owner=wallet, beneficiary=wallet, node_public_key=key.public_key, deposit_wei="1")
                for key in self.keys
            ),
        )
        self.genesis_hash = genesis_hash(self.genesis)
        self.authorities = genesis_authorities(self.genesis)
        self.state = AuthMap()
        self.height = 10
        self.signers = 3
        self.time_ms = now_ms()

    def set(self, key: bytes, record: Struct) -> None:
        self.state = self.state.update({key: encode(record)})
        self.height += 1

    def evidence(self) -> MetaEvidence:
        header = Header(
            HEADER_VERSION,
            "meta",
            self.genesis_hash,
            self.height,
            self.time_ms,
            NIL_HASH,
            NIL_HASH,
            NIL_HASH,
            self.state.root,
            NIL_HASH,
            NIL_HASH,
            self.authorities.hash,
            self.authorities.hash,
            self.keys[0].address,
        )
        block = header_hash(header)
        signed = vote_bytes(
            self.genesis_hash, layer="meta", kind=PRECOMMIT, height=self.height, round_number=0, block_hash=block
        )
        votes = []
        for index, validator in enumerate(self.authorities):
            key = next(each for each in self.keys if each.address == validator.address)
            if len(votes) < self.signers:
                votes.append(PrecommitSignature(index, key.sign(signed)))
        return MetaEvidence(header, Commit(self.height, 0, block, tuple(votes)))

    def proof(self, key: bytes) -> bytes:
        return encode(self.state.prove(key))

    def open_session(self, key: NodeKey, wallet: bytes = b"w" * 20, status: int = SESSION_OPEN) -> Session:
        session = Session(os.urandom(16), wallet, key.public_key, 10**9, 10**9, now_ms() + 10**7, status, 0)
        self.set(session_key(session.id), session)
        return session

    def session_token(self, session: Session, holder: bytes, allotted: int) -> SessionToken:
        allotment = Allotment(allotted, 0, EMPTY_CHAIN)
        key = allotment_key(session.id, holder)
        self.set(key, allotment)
        return SessionToken(
            session, self.proof(session_key(session.id)), holder, allotment, self.proof(key), self.evidence()
        )

    def placement_token(
        self, session: Session, slices: list[tuple[SliceSpec, tuple[bytes, ...]]], first_index: int = 0
    ) -> PlacementToken:
        placement = Placement(
            os.urandom(16),
            session.id,
            session.wallet,
            first_index,
            NIL_HASH,
            tuple(PlacedSlice(spec, holders) for spec, holders in slices),
            tuple(() for _ in slices),
        )
        key = placement_key(placement.upload, first_index)
        self.set(key, placement)
        return PlacementToken(placement, self.proof(key), session, self.proof(session_key(session.id)), self.evidence())

    def repair_token(self, target: bytes, slices: list[SliceSpec], source: bytes) -> RepairToken:
        order = RepairOrder(
            os.urandom(16),
            target,
            b"l" * 20,
            tuple(slices),
            tuple((source,) for _ in slices),
            now_ms() + 10**6,
        )
        key = repair_key(order.id)
        self.set(key, order)
        return RepairToken(order, self.proof(key), self.evidence())


class Holder:
    """One holder with all its real parts, serving on loopback."""

    def __init__(
        self,
        meta: Meta,
        folder: Path,
        *,
        transport: str,
        limit_bytes: int,
        silence_seconds: float,
        port: int = 0,
        key: NodeKey | None = None,
    ) -> None:
        self.meta = meta
        self.folder = folder
        self.transport = transport
        self.key = key or NodeKey.generate()
        self.corrupt: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.store = SliceStore(
            folder / "slices", limit_bytes=limit_bytes, on_corrupt=lambda _digest, why: self.corrupt.append(why)
        )
        self.books = Books(folder / "journal", key=self.key, genesis_hash=meta.genesis_hash, epoch=lambda: 1)
        verifier = TokenVerifier(
            AuthorityTrust(meta.genesis, meta.genesis_hash, lambda _height: []),
            now_ms=now_ms,
            max_age_ms=round(EPOCH_SECONDS * 1000),
        )
        self.services = Services(
            key=self.key,
            genesis_hash=meta.genesis_hash,
            store=self.store,
            books=self.books,
            verifier=verifier,
            placements=Placements(verifier),
            links=LinkPool(
                identity=self.key,
                genesis_hash=meta.genesis_hash,
                transport=transport,
                now=time.monotonic,
                timeout=silence_seconds,
            ),
            buffers=Buffers(),
            counters=Counters(),
            epoch=lambda: 1,
            now_ms=now_ms,
        )
        self.server = BulkServer(
            self.services,
            tls=server_context(self.key) if transport == "tls" else None,
            max_connections=64,
            silence_seconds=silence_seconds,
        )
        self.port = self.server.start("127.0.0.1", port)

    @property
    def address(self) -> bytes:
        return self.key.address

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.close()
        self.services.links.close()
        self.books.close()
        self.store.close()


class Net:
    """Holders of one test and the client's way to them."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.meta = Meta()
        self.transport = transport
        self.client = NodeKey.generate()
        self.holders: list[Holder] = []
        self._folder = folder
        self._links: list[BulkLink] = []
        self.links = LinkPool(
            identity=self.client,
            genesis_hash=self.meta.genesis_hash,
            transport=transport,
            now=time.monotonic,
            timeout=60.0,
        )

    def start(self, count: int, *, limit_bytes: int = 1 << 30, silence_seconds: float = 60.0) -> list[Holder]:
        for _ in range(count):
            self.holders.append(
                Holder(
                    self.meta,
                    self._folder / f"holder{len(self.holders)}",
                    transport=self.transport,
                    limit_bytes=limit_bytes,
                    silence_seconds=silence_seconds,
                )
            )
        return self.holders[-count:]

    def restart(self, holder: Holder) -> Holder:
        """Stop a holder and start it again on its folder, key and port."""
        holder.stop()
        again = Holder(
            self.meta,
            holder.folder,
            transport=holder.transport,
            limit_bytes=1 << 30,
            silence_seconds=60.0,
            port=holder.port,
            key=holder.key,
        )
        self.holders[self.holders.index(holder)] = again
        return again

    def link(self, holder: Holder) -> BulkLink:
        link = self.links.get(holder.address, holder.endpoint)
        self._links.append(link)
        return link

    def stop(self) -> None:
        self.links.close()
        for link in self._links:
            link.close()
        for holder in self.holders:
            holder.stop()


def spec_of(data: bytes) -> SliceSpec:
    hashes = SliceHashes()
    hashes.update(data)
    return SliceSpec(hashes.finish(), len(data))
