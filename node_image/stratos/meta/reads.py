"""What a meta node tells from its committed state, with proofs where the asker must not trust it.

Every answer is stamped with height and root. Tokens carry the record, its proof and the signed header it is proven
against, so a holder can check them with nothing but the authority set.
"""

from typing import Any

from stratos.crypto.merkle import MerkleTree
from stratos.meta import ozone
from stratos.meta.application import MetaApplication
from stratos.meta.epochs import epoch_at, leaf_bytes, receipts_between
from stratos.meta.errors import MetaError
from stratos.meta.holders import all_holders, get_holder, holder_info, live_count
from stratos.meta.index import pending_drops
from stratos.meta.machine import get_clock
from stratos.meta.outbox import authorities
from stratos.meta.rooms import (
    ALLOTMENT,
    BALANCE,
    BEACON,
    CANDIDATES,
    CHAIN_HEIGHT,
    FILE,
    HISTORY,
    NEWS,
    NOTE,
    PLACEMENT,
    REFUSAL,
    REPAIR,
    REPORT,
    RESERVED,
    SESSION,
    SESSION_HOLDERS,
    SLICE,
    UPLOAD,
    u32,
    u64,
)
from stratos.meta.store import MetaStore
from stratos.meta.uploads import get_upload, upload_slices
from stratos.state import Table
from stratos.wire import metarpc
from stratos.wire.codec import encode
from stratos.wire.limits import MAX_ALLOTMENTS
from stratos.wire.metalog import PlacedSlice, StoredFile
from stratos.wire.peersrpc import Peer, Peers
from stratos.wire.transfer import MetaEvidence, PlacementToken, RepairToken, SessionToken

MAX_DROPS = 10_000
MAX_ORDERS = 64
MAX_UINT = 2**63 - 1
RECEIPTS_PER_ANSWER = 5_000
"""So that an answer stays well within a client's frame."""
COPIES_LOOKED_AT = 1_000
"""Slices of a file whose copies a listing counts; larger files are judged by their first ones."""


class MetaReads:
    """Answers from one node's committed state. Raises MetaError for what is not there."""

    def __init__(self, application: MetaApplication, store: MetaStore) -> None:
        self._app = application
        self._store = store
        self._state = application.state

    def stamp(self) -> metarpc.Stamp:
        """Where answers come from."""
        clock = get_clock(self._state)
        return metarpc.Stamp(self._app.height, self._state.root, clock.time_ms, clock.epoch)

    def network(self) -> metarpc.Network:
        """Holders and the beacon."""
        clock = get_clock(self._state)
        return metarpc.Network(
            self.stamp(),
            tuple(holder_info(holder) for holder in all_holders(self._state)),
            BEACON.get(self._state, u64(clock.epoch)) or self._app.genesis_hash,
            CHAIN_HEIGHT.get(self._state),
        )

    def peers(self) -> Peers:
        """Active meta nodes, where the register says they answer."""
        return Peers(tuple(Peer(one.public_key, one.network_address) for one in authorities(self._state)))

    def balance(self, wallet: bytes) -> metarpc.Balance:
        """A wallet's ozone; figures over 2^63 are cut there."""
        return metarpc.Balance(
            self.stamp(),
            min(MAX_UINT, BALANCE.get(self._state, wallet)),
            min(MAX_UINT, RESERVED.get(self._state, wallet)),
        )

    def session_tokens(self, session_id: bytes, holders: tuple[bytes, ...]) -> metarpc.SessionTokens:
        """Proofs of a session's allotments."""
        session = SESSION.get(self._state, session_id)
        if session is None:
            raise MetaError("session", f"session {session_id.hex()} is unknown or finished; open a new one")
        session_proof = self._proof(SESSION, session_id)
        evidence = self._evidence()
        tokens = []
        for address in holders or (SESSION_HOLDERS.get(self._state, session_id) or ())[:MAX_ALLOTMENTS]:
            allotment = ALLOTMENT.get(self._state, session_id + address)
            if allotment is not None:
                proof = self._proof(ALLOTMENT, session_id + address)
                tokens.append(SessionToken(session, session_proof, address, allotment, proof, evidence))
        return metarpc.SessionTokens(self.stamp(), tuple(tokens))

    def placement(self, upload: bytes, first_index: int) -> metarpc.PlacementAnswer | None:
        """A decided placement; None while its lottery waits."""
        name = upload + u32(first_index)
        refusal = REFUSAL.get(self._state, name)
        if refusal is not None:
            raise MetaError(refusal.code, refusal.error)
        placement = PLACEMENT.get(self._state, name)
        if placement is None:
            record = get_upload(self._state, upload)
            if not any(first == first_index for first, _ in record.ranges):
                raise MetaError(
                    "upload", f"upload {upload.hex()} has no placement at slice {first_index}; place it first"
                )
            return None
        session = SESSION.get(self._state, placement.session)
        if session is None:
            raise MetaError("session", f"session {placement.session.hex()} is finished; open a new one")
        token = PlacementToken(
            placement, self._proof(PLACEMENT, name), session, self._proof(SESSION, session.id), self._evidence()
        )
        return metarpc.PlacementAnswer(self.stamp(), token)

    def file(self, wallet: bytes, file_cid: bytes) -> metarpc.FileAnswer:
        """A wallet's file with the holders of its slices."""
        stored = FILE.get(self._state, wallet + file_cid)
        if stored is None:
            raise MetaError(
                "file", f"wallet {wallet.hex()} has no file {file_cid.hex()}; list its files for the right name"
            )
        return self._file(wallet + file_cid, stored)

    def upload(self, upload_id: bytes) -> metarpc.FileAnswer:
        """An upload by id: what of it can be read already."""
        upload = UPLOAD.get(self._state, upload_id)
        if upload is None:
            raise MetaError("upload", f"upload {upload_id.hex()} is unknown or long complete; ask for its file")
        if upload.files:
            return self.file(upload.wallet, upload.files[0])
        readable = []
        for _, placed in upload_slices(self._state, upload_id, upload):
            record = SLICE.get(self._state, placed.spec.digest)
            if record is None or not record.holders:
                break
            readable.append(PlacedSlice(record.spec, record.holders))
        progress = NOTE.get(self._state, upload_id) or b""
        return metarpc.FileAnswer(self.stamp(), None, b"", None, tuple(readable), progress, False)

    def files(self, wallet: bytes, after: bytes, limit: int) -> metarpc.FileList:
        """A wallet's files in order of name, from after one on."""
        found: list[metarpc.FileSummary] = []
        for key, stored in FILE.items(self._state, wallet):
            if key[len(wallet) :] <= after:
                continue
            if len(found) == limit:
                break
            record = stored.record
            found.append(
                metarpc.FileSummary(
                    record.file_cid, record.name, record.size, record.video, self._copies(stored), stored.created_ms
                )
            )
        return metarpc.FileList(self.stamp(), tuple(found))

    def slice(self, digest: bytes) -> metarpc.SliceAnswer:
        """A slice's holders and the lot it was placed by."""
        record = SLICE.get(self._state, digest)
        if record is None:
            raise MetaError("slice", f"slice {digest.hex()} is not stored")
        placed_in = self._store.block(record.placed_height)
        epoch = epoch_at(self._app.genesis, placed_in.block.header.time_ms) if placed_in is not None else 0
        return metarpc.SliceAnswer(
            self.stamp(),
            PlacedSlice(record.spec, record.holders),
            record.seed,
            record.references,
            record.copies,
            record.placed_height,
            record.wallet,
            record.session,
            BEACON.get(self._state, u64(epoch)) or b"",
            record.tier,
            record.chosen,
            CANDIDATES.get(self._state, u64(record.placed_height) + record.wallet) or (),
        )

    def has_news(self, holder: bytes, after_height: int) -> bool:
        """Whether a holder's orders or drops changed after a height."""
        return NEWS.get(self._state, holder) > after_height

    def repairs(self, holder: bytes) -> metarpc.RepairOrders:
        """A holder's open repair orders, and what it should delete."""
        evidence = self._evidence()
        orders: list[RepairToken] = []
        for name, order in REPAIR.items(self._state):
            if order.target == holder and len(orders) < MAX_ORDERS:
                orders.append(RepairToken(order, self._proof(REPAIR, name), evidence))
        drops = pending_drops(self._state, holder)
        height = self._app.height
        if len(drops) > MAX_DROPS:
            # A cut list acknowledges only heights it lists completely.
            height = drops[MAX_DROPS][0] - 1
            drops = [drop for drop in drops[:MAX_DROPS] if drop[0] <= height] or drops[:MAX_DROPS]
        return metarpc.RepairOrders(self.stamp(), tuple(orders), tuple(digest for _, digest in drops), height)

    def evidence(self, height: int) -> metarpc.Evidence:
        """Header and certificate at a height (0: newest)."""
        change = self._store.change(height or self._app.height)
        if change is None:
            raise MetaError("invalid", f"there is no block {height} yet; the newest is {self._app.height}")
        return metarpc.Evidence(self.stamp(), change.header, change.commit, change.next_validators)

    def set_changes(self, first: int) -> metarpc.SetChanges:
        """Authority changes from a height on."""
        stamp = self.stamp()
        return metarpc.SetChanges(
            stamp,
            tuple(
                metarpc.Evidence(stamp, change.header, change.commit, change.next_validators)
                for change in self._store.changes(first)
            ),
        )

    def epoch_receipts(self, epoch: int, node: bytes, first: int = 0) -> metarpc.EpochReceipts:
        """What a report's row rests on."""
        report = REPORT.get(self._state, u64(epoch))
        rows = report.rows if report is not None else ()
        for index, row in enumerate(rows):
            if row.node == node:
                leaves = leaf_bytes(rows)
                start = min(row.first_seq + first, row.end_seq)
                end = min(start + RECEIPTS_PER_ANSWER, row.end_seq)
                return metarpc.EpochReceipts(
                    self.stamp(),
                    metarpc.NodeLeaf(row.node, row.volume_noz, row.receipts_root),
                    index,
                    len(rows),
                    MerkleTree(leaves).proof(index),
                    tuple(receipts_between(self._state, node, start, end)),
                    row.end_seq - row.first_seq,
                )
        raise MetaError("epoch", f"the report of epoch {epoch} has no row for {node.hex()}")

    def ozone_sheet(self) -> metarpc.OzoneSheet:
        """The conservation sheet."""
        totals = ozone.sheet(self._state)
        settled = sum(1 for _, report in REPORT.items(self._state) if report.outcome == "included")
        return metarpc.OzoneSheet(
            self.stamp(),
            min(MAX_UINT, totals[ozone.SOLD]),
            min(MAX_UINT, totals[ozone.BALANCES]),
            min(MAX_UINT, totals[ozone.RESERVES]),
            min(MAX_UINT, totals[ozone.REPAIR_RESERVE]),
            min(MAX_UINT, totals[ozone.UNSETTLED]),
            min(MAX_UINT, totals[ozone.REPORTED]),
            settled,
        )

    def explain(self, node: bytes) -> metarpc.Explanation:
        """A holder and the history of its score."""
        holder = get_holder(self._state, node)
        history = HISTORY.get(self._state, node) or ()
        return metarpc.Explanation(
            self.stamp(),
            holder_info(holder),
            tuple((item.time_ms, item.reason, item.delta) for item in history),
        )

    def _file(self, key: bytes, stored: StoredFile) -> metarpc.FileAnswer:
        slices = []
        for digest in stored.digests:
            record = SLICE.get(self._state, digest)
            if record is None:
                raise MetaError("slice", f"slice {digest.hex()} of {stored.record.name!r} is lost")
            slices.append(PlacedSlice(record.spec, record.holders))
        proof = self._proof(FILE, key)
        return metarpc.FileAnswer(self.stamp(), stored, proof, self._evidence(), tuple(slices), b"", True)

    def _copies(self, stored: StoredFile) -> int:
        least: int | None = None
        for digest in stored.digests[:COPIES_LOOKED_AT]:
            record = SLICE.get(self._state, digest)
            copies = live_count(self._state, record.holders) if record is not None else 0
            least = copies if least is None else min(least, copies)
        return self._app.genesis.meta.copies if least is None else least

    def _proof(self, table: Table[Any], suffix: bytes) -> bytes:
        return encode(self._state.prove(table.prefix + suffix))

    def _evidence(self) -> MetaEvidence:
        committed = self._store.block(self._app.height)
        if committed is None:
            raise MetaError("epoch", "the log has no block yet; ask again in a moment")
        return MetaEvidence(committed.block.header, committed.commit)
