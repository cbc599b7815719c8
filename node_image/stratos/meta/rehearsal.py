"""A meta layer on a table: the real machine with all its counterparts' keys, without consensus, sockets or clocks.

For tests, property scripts and the simulator: keys come from a seed, `step` makes one block of the entries given and runs
it through a proposing and a verifying application (so every step also proves that a replica reaches the same roots),
`chain` signs a chain block with bridge events of one's choice, and the short makers below build signed entries and
receipts the way clients and holders do.
"""

from collections.abc import Iterable, Sequence

from blake3 import blake3

from stratos.bft.blocks import commit_hash, header_hash
from stratos.bft.events import BlockTemplate
from stratos.bft.signing import vote_bytes
from stratos.crypto.keys import NodeKey, WalletKey, verify_node
from stratos.crypto.merkle import merkle_root
from stratos.ledger.roots import bridge_root
from stratos.meta.application import META_LAYER, MetaApplication
from stratos.meta.bridge import VALUE_LAYER, chain_validators
from stratos.meta.entries import sign_entry, sign_receipt
from stratos.meta.machine import get_clock
from stratos.meta.rooms import CHAIN_HEIGHT, HOLDER, PLACEMENT, SESSION, Holder, u32
from stratos.state import State
from stratos.wire.block import (
    EMPTY_COMMIT,
    HEADER_VERSION,
    NIL_HASH,
    PRECOMMIT,
    Block,
    Commit,
    EntryResult,
    Event,
    Header,
    PrecommitSignature,
)
from stratos.wire.codec import encode
from stratos.wire.genesis import (
    ConsensusParams,
    Genesis,
    GenesisAccount,
    GenesisNode,
    GenesisPrepay,
    GenesisValidator,
    LedgerParams,
    MetaParams,
    PotParams,
    SdsParams,
    genesis_hash,
)
from stratos.wire.metalog import (
    ChainBlock,
    CompleteUpload,
    Entry,
    EntryBody,
    FileRecord,
    HeldIndices,
    NodeStatus,
    OpenSession,
    Place,
    PlacedSlice,
    ServedTasks,
    Session,
    SliceSpec,
)
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    UPLOAD,
    DownloadTask,
    ReceiptBody,
    chain_digest,
    indices_digest,
)

STOS = 10**18
START_MS = 1_800_000_000_000


def seed_bytes(*parts: object) -> bytes:
    """32 bytes that depend on the parts: keys, nonces and data of a rehearsal."""
    return blake3(repr(parts).encode()).digest()


class Rehearsal:
    """One network of `authorities` meta nodes and `holders` resource nodes, user wallets with prepaid ozone."""

    def __init__(
        self,
        *,
        holders: int = 6,
        authorities: int = 4,
        users: int = 2,
        meta: MetaParams | None = None,
        settlement: str = "top80",
        hosts: Sequence[str] = (),
        owners: Sequence[int] = (),
        day_seconds: int = 86_400,
        seed: object = 0,
    ) -> None:
        self.users = [WalletKey(seed_bytes(seed, "user", i)) for i in range(users)]
        self.validator = NodeKey(seed_bytes(seed, "validator"))
        self.authorities = [NodeKey(seed_bytes(seed, "meta", i)) for i in range(authorities)]
        self.holders = [NodeKey(seed_bytes(seed, "holder", i)) for i in range(holders)]
        self.owners = [WalletKey(seed_bytes(seed, "owner", i)) for i in range(holders)]
        self.by_address = {key.address: key for key in self.holders}
        holder_owner = [
            self.users[owners[i]].address if i < len(owners) and owners[i] >= 0 else w.address
            for i, w in enumerate(self.owners)
        ]
        self.genesis = Genesis(
            network="rehearsal",
            time_ms=START_MS,
            ledger=LedgerParams(
                pot=PotParams(mature_epoch=2), sds=SdsParams(settlement=settlement), day_seconds=day_seconds
            ),
            meta=meta or MetaParams(epoch_seconds=10.0, status_seconds=1.0, dispute_seconds=5.0),
            meta_consensus=ConsensusParams(block_seconds=1.0),
            accounts=tuple(GenesisAccount(address=u.address, balance_wei=str(1_000 * STOS)) for u in self.users),
            validators=(
                GenesisValidator(
                    operator=self.users[0].address, node_public_key=self.validator.public_key, stake_wei=str(STOS)
                ),
            ),
            meta_nodes=tuple(
                GenesisNode(
                    owner=blake3(key.address).digest()[:20],
                    beneficiary=blake3(key.address).digest()[:20],
                    node_public_key=key.public_key,
                    deposit_wei=str(100 * STOS),
                    effective_wei=str(100 * STOS),
                    name=f"meta{i}",
                )
                for i, key in enumerate(self.authorities)
            ),
            resource_nodes=tuple(
                GenesisNode(
                    owner=holder_owner[i],
                    beneficiary=holder_owner[i],
                    node_public_key=key.public_key,
                    deposit_wei=str(800 * STOS),
                    effective_wei=str(800 * STOS),
                    name=f"resource{i}",
                    host=hosts[i] if i < len(hosts) else "",
                    network_address=f"127.0.0.1:{9000 + i}",
                )
                for i, key in enumerate(self.holders)
            ),
            prepays=tuple(
                GenesisPrepay(sender=u.address, beneficiary=u.address, amount_wei=str(100 * STOS)) for u in self.users
            ),
        )
        self.genesis_hash = genesis_hash(self.genesis)
        self.app = self.new_application()
        self.twin = self.new_application()
        self.validators = self.app.genesis_validators()
        self.next_validators = self.validators
        self.blocks: list[tuple[Block, Commit]] = []
        self.time_ms = START_MS
        self.last_commit: Commit = EMPTY_COMMIT
        self.last_hash = NIL_HASH
        self._nonce = 0

    def new_application(self) -> MetaApplication:
        """One more node, at genesis."""
        return MetaApplication(self.genesis, genesis_hash=self.genesis_hash, verify=verify_node, state=State())

    # -- blocks ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Committed state."""
        return self.app.state

    @property
    def epoch(self) -> int:
        """The log's epoch."""
        return get_clock(self.state).epoch

    def step(self, *entries: Entry, seconds: float = 0.1) -> list[EntryResult]:
        """One block; the result of each entry given, in order (refused ones are not in the block)."""
        self.time_ms += max(1, round(seconds * 1000))
        results: dict[bytes, EntryResult] = {}
        names = []
        for entry in entries:
            pooled = self.app.check(encode(entry))
            names.append(pooled.name)
            if not self.app.pool.add(pooled) and pooled.name not in self.app.pool:
                results[pooled.name] = EntryResult("nonce", "this very entry was ordered before", ())
        self.app.on_refused = lambda pooled, result: results.__setitem__(pooled.name, result)
        template = BlockTemplate(
            layer=META_LAYER,
            genesis_hash=self.genesis_hash,
            height=self.app.height + 1,
            time_ms=self.time_ms,
            previous_hash=self.last_hash,
            last_commit=self.last_commit,
            validators_hash=self.validators.hash,
            next_validators_hash=self.next_validators.hash,
            proposer=self.authorities[0].address,
        )
        block = self.app.propose(template)
        refusal = self.twin.verify(block)
        assert refusal is None, refusal
        name = header_hash(block.header)
        # A certificate with no signatures: nobody in a rehearsal checks meta certificates, but placement draws from its hash.
        commit = Commit(block.header.height, 0, name, ())
        ordered = {self.app.check(raw).name: index for index, raw in enumerate(block.entries)}

        def remember(_height: int, _executed: Sequence[object], outcomes: Sequence[EntryResult]) -> None:
            for entry_name, index in ordered.items():
                results[entry_name] = outcomes[index]

        self.app.on_ordered = remember
        self.validators, self.next_validators = self.next_validators, self.app.commit(block, commit)
        self.twin.commit(block, commit)
        assert self.app.state.root == self.twin.state.root
        self.last_commit, self.last_hash = commit, name
        self.blocks.append((block, commit))
        return [results[n] for n in names]

    def run(self, *entries: Entry, seconds: float = 0.1) -> list[EntryResult]:
        """One block in which every entry must be accepted."""
        results = self.step(*entries, seconds=seconds)
        for result in results:
            assert result.code == "ok", f"{result.code}: {result.error}"
        return results

    def refused(self, entry: Entry) -> str:
        """The code with which an entry is refused; it must leave no trace."""
        before = self.state.root
        fork = self.app.trial(self.app.check(encode(entry)))
        assert fork.code != "ok", "the entry was accepted"
        assert self.state.root == before
        return fork.code

    def to_epoch(self, epoch: int) -> None:
        """Empty blocks with heartbeats until the epoch begins."""
        while self.epoch < epoch:
            self.heartbeat(seconds=0.5)

    def wait(self, seconds: float) -> None:
        """Let time pass with heartbeats of every holder."""
        end = self.time_ms + round(seconds * 1000)
        while self.time_ms < end:
            self.heartbeat(seconds=0.5)

    # -- makers ------------------------------------------------------------------------------------------------------

    def nonce(self) -> bytes:
        """A fresh nonce."""
        self._nonce += 1
        return seed_bytes("nonce", self._nonce)[:16]

    def entry(self, body: EntryBody, key: WalletKey | NodeKey) -> Entry:
        """A signed entry."""
        return sign_entry(body, key=key, genesis_hash=self.genesis_hash, nonce=self.nonce(), time_ms=self.time_ms)

    def heartbeat(self, *, without: Iterable[NodeKey] = (), seconds: float = 0.1, disk_free: int = 10**12) -> None:
        """All holders (but some) report their status."""
        silent = {key.address for key in without}
        body = NodeStatus(disk_free, 0, 0, False, "", "")
        self.run(*(self.entry(body, key) for key in self.holders if key.address not in silent), seconds=seconds)

    def chain(self, *events: Event, author: NodeKey | None = None, height: int | None = None) -> Entry:
        """The next chain block with these bridge events, certified by the one validator."""
        validators = chain_validators(self.state)
        number = CHAIN_HEIGHT.get(self.state) + 1 if height is None else height
        header = Header(
            HEADER_VERSION,
            VALUE_LAYER,
            self.genesis_hash,
            number,
            self.time_ms,
            NIL_HASH,
            commit_hash(EMPTY_COMMIT),
            merkle_root([]),
            NIL_HASH,
            NIL_HASH,
            bridge_root(events),
            validators.hash,
            validators.hash,
            self.validator.address,
        )
        name = header_hash(header)
        message = vote_bytes(
            self.genesis_hash, layer=VALUE_LAYER, kind=PRECOMMIT, height=number, round_number=0, block_hash=name
        )
        commit = Commit(number, 0, name, (PrecommitSignature(0, self.validator.sign(message)),))
        return self.entry(ChainBlock(header, commit, events, ()), author or self.authorities[0])

    def open(
        self,
        *,
        user: int = 0,
        max_noz: int = 10**9,
        spread_noz: int = 0,
        seconds: float = 600.0,
        key: object = "session",
    ) -> tuple[Session, NodeKey]:
        """An open session and its key."""
        session_key = NodeKey(seed_bytes(key, user, self._nonce))
        body = OpenSession(session_key.public_key, max_noz, spread_noz, self.time_ms + round(seconds * 1000))
        entry = self.entry(body, self.users[user])
        self.run(entry)
        session = SESSION.get(self.state, blake3(encode(entry)).digest()[:16])
        assert session is not None
        return session, session_key

    def slices(self, *sizes: int, tag: object = "data") -> tuple[SliceSpec, ...]:
        """Slices of these lengths with made-up content."""
        return tuple(SliceSpec(seed_bytes(tag, i, size), size) for i, size in enumerate(sizes))

    def place(
        self,
        session: Session,
        key: NodeKey,
        specs: Sequence[SliceSpec],
        *,
        upload: bytes,
        first: int = 0,
        copies: int = 0,
    ) -> tuple[PlacedSlice, ...]:
        """Order a placement, wait for its lottery and return it."""
        self.run(self.entry(Place(session.id, upload, first, tuple(specs), copies, 0), key))
        self.step()
        self.step()
        placement = PLACEMENT.get(self.state, upload + u32(first))
        assert placement is not None
        return placement.slices

    def held(
        self,
        session_key: NodeKey,
        upload: bytes,
        placed: Sequence[PlacedSlice],
        *,
        first: int = 0,
        skip: Iterable[bytes] = (),
    ) -> tuple[HeldIndices, ...]:
        """Receipts of all assigned holders (but some) over all slices of one placement."""
        by_holder: dict[bytes, list[int]] = {}
        for offset, one in enumerate(placed):
            for holder in one.holders:
                by_holder.setdefault(holder, []).append(first + offset)
        left_out = set(skip)
        return tuple(
            self.upload_receipt(
                session_key, upload, holder, indices, sum(placed[i - first].spec.length for i in indices)
            )
            for holder, indices in sorted(by_holder.items())
            if holder not in left_out
        )

    def upload_receipt(
        self,
        session_key: NodeKey,
        upload: bytes,
        holder: bytes,
        indices: list[int],
        total: int,
        *,
        epoch: int | None = None,
    ) -> HeldIndices:
        """One holder's receipt for slices of an upload, signed by both sides."""
        body = ReceiptBody(
            UPLOAD, upload, holder, self.epoch if epoch is None else epoch, total, indices_digest(indices)
        )
        receipt = sign_receipt(body, giver=session_key, taker=self.by_address[holder], genesis_hash=self.genesis_hash)
        return HeldIndices(receipt, tuple(indices))

    def file(self, placed: Sequence[PlacedSlice], *, name: str = "file", first: int = 0) -> FileRecord:
        """A file of all slices of one placement."""
        cid = b"\x01\x66\x1b\x14" + seed_bytes("cid", name)[:20]
        slices = tuple(range(first, first + len(placed)))
        return FileRecord(cid, name, sum(one.spec.length for one in placed), "", False, b"", slices)

    def put(
        self, session: Session, key: NodeKey, *sizes: int, name: str = "file", upload: bytes | None = None
    ) -> tuple[FileRecord, tuple[PlacedSlice, ...]]:
        """Upload a file: place, receipts of everybody, complete."""
        upload_id = upload or seed_bytes("upload", name)[:16]
        placed = self.place(session, key, self.slices(*sizes, tag=name), upload=upload_id)
        file = self.file(placed, name=name)
        body = CompleteUpload(session.id, upload_id, self.held(key, upload_id, placed), (file,))
        self.run(self.entry(body, key))
        return file, placed

    def served(
        self,
        session: Session,
        session_key: NodeKey,
        holder: bytes,
        tasks: Sequence[DownloadTask],
        *,
        after: int = 0,
        digest: bytes = EMPTY_CHAIN,
        epoch: int | None = None,
        total: int | None = None,
    ) -> ServedTasks:
        """A download receipt over tasks, signed by both sides; `after` and `digest` continue an earlier one."""
        noz = after
        for task in tasks:
            digest = chain_digest(digest, task)
            noz += task.length
        body = ReceiptBody(
            DOWNLOAD,
            session.id,
            holder,
            self.epoch if epoch is None else epoch,
            noz if total is None else total,
            digest,
        )
        receipt = sign_receipt(body, giver=self.by_address[holder], taker=session_key, genesis_hash=self.genesis_hash)
        return ServedTasks(receipt, tuple(tasks))

    def holder(self, key: NodeKey) -> Holder:
        """The log's record of a holder."""
        record = HOLDER.get(self.state, key.address)
        assert record is not None
        return record
