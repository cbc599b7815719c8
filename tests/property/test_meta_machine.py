"""The meta log under random entries: ozone conserved, receipts paid once, replicas equal, refusals without a trace."""

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stratos.crypto.keys import NodeKey
from stratos.crypto.signing import sign_bytes
from stratos.ledger.events import event
from stratos.meta import ozone
from stratos.meta.books import check_books
from stratos.meta.entries import sign_receipt
from stratos.meta.outbox import in_flight, is_report
from stratos.meta.rehearsal import Rehearsal, seed_bytes
from stratos.meta.rooms import ALLOTMENT, IN_FLIGHT, PLACEMENT, REPAIR, SESSION, SLICE, u32
from stratos.wire.codec import encode
from stratos.wire.genesis import MetaParams
from stratos.wire.metalog import (
    AbortUpload,
    ActionSignature,
    CloseSession,
    CompleteUpload,
    Dispute,
    DownloadReceipts,
    Entry,
    HeldIndices,
    NodeStatus,
    Place,
    PlacedSlice,
    PossessionFailure,
    RemoveFile,
    RepairReceipts,
    ServedTasks,
    Session,
    UploadReceipts,
)
from stratos.wire.receipts import REPAIR as REPAIR_KIND
from stratos.wire.receipts import DownloadTask, ReceiptBody, indices_digest

FIND = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
numbers = st.integers(0, 2**16)
steps = st.lists(st.tuples(st.integers(0, 15), numbers, numbers, numbers), min_size=5, max_size=60)


class Script:
    """Turns random numbers into entries that are mostly meaningful: existing sessions, uploads, slices, holders."""

    def __init__(self) -> None:
        self.net = Rehearsal(
            holders=5,
            owners=[-1, 1],
            meta=MetaParams(
                epoch_seconds=4.0,
                status_seconds=1.0,
                dispute_seconds=6.0,
                suspend_offline_seconds=4.0,
                remove_offline_seconds=9.0,
            ),
        )
        self.net.heartbeat()
        self.sessions: list[tuple[Session, NodeKey]] = []
        self.uploads: list[tuple[int, bytes]] = []
        self.files: list[tuple[int, bytes]] = []
        self.old: list[Entry] = []
        self.silent: set[bytes] = set()
        self.accepted = 0

    def play(self, action: int, a: int, b: int, c: int) -> None:
        net = self.net
        entries = self.entries(action, a, b, c)
        before = net.state.root
        for entry in entries:
            # What is refused on its own leaves the committed state alone.
            net.app.trial(net.app.check(encode(entry)))
            assert net.state.root == before
        results = net.step(*entries, seconds=(0.1, 0.4, 1.3, 4.1)[c % 4] if action == 0 else 0.1)
        self.accepted += sum(result.code == "ok" for result in results)
        self.old.extend(entries)
        check_books(net.state)

    def entries(self, action: int, a: int, b: int, c: int) -> Sequence[Entry]:
        net = self.net
        if action in (0, 1):
            keys = [key for key in net.holders if key.address not in self.silent]
            return [net.entry(NodeStatus(10**9, 0, 0, False, "", "", b % 2 * net.app.height), key) for key in keys]
        if action == 2:
            user = a % 2
            if b % 3 == 0 or not self.sessions:
                pair = net.open(user=user, max_noz=100_000 + b, spread_noz=(b % 2) * 50_000, seconds=3 + c % 30)
                self.sessions.append(pair)
                return []
            session, key = self.sessions[a % len(self.sessions)]
            return [net.entry(CloseSession(session.id), key)]
        if action == 15 and self.old:
            return [self.old[a % len(self.old)]]
        if action == 14:
            return self.chain(a, b)
        if action == 13:
            self.silent ^= {net.holders[a % 5].address}
            return []
        if not self.sessions:
            return []
        session, key = self.sessions[a % len(self.sessions)]
        if action in (3, 4):
            upload = seed_bytes("upload", b % 4, a % len(self.sessions))[:16]
            self.uploads.append((a % len(self.sessions), upload))
            specs = net.slices(*(1 + (b * (i + 1)) % 997 for i in range(1 + c % 3)), tag=b % 5)
            return [net.entry(Place(session.id, upload, (c % 2) * 3, specs, c % 5, 0), key)]
        if action == 11:
            return self.disputes(a, b, c)
        if action == 12:
            return self.repairs(b, c)
        if action == 10:
            records = [d for d, _ in SLICE.items(net.state)]
            if not records:
                return []
            body = PossessionFailure(net.holders[b % 5].address, records[c % len(records)])
            return [net.entry(body, authority) for authority in net.authorities[: 1 + b % 4]]
        if action == 9 and self.files:
            user, cid = self.files[b % len(self.files)]
            return [net.entry(RemoveFile(cid), net.users[user])]
        if action in (8, 9):
            return self.download(session, key, b, c)
        if not self.uploads:
            return []
        index, upload = self.uploads[b % len(self.uploads)]
        session, key = self.sessions[index]
        placed = self.placed(upload, (c % 2) * 3)
        if action == 5:
            return [net.entry(AbortUpload(session.id, upload), key)] if c % 3 == 0 else []
        held = net.held(key, upload, placed, first=(c % 2) * 3)
        if action == 6:
            return [net.entry(UploadReceipts(session.id, upload, held[: 1 + b % 5], b"note"), key)]
        file = net.file(placed, name=f"f{b % 6}", first=(c % 2) * 3)
        user = net.users.index(next(u for u in net.users if u.address == session.wallet))
        self.files.append((user, file.file_cid))
        return [net.entry(CompleteUpload(session.id, upload, held, (file,)), key)]

    def placed(self, upload: bytes, first: int) -> Sequence[PlacedSlice]:
        placement = PLACEMENT.get(self.net.state, upload + u32(first))
        return placement.slices if placement is not None else ()

    def download(self, session: Session, key: NodeKey, b: int, c: int) -> Sequence[Entry]:
        net = self.net
        records = [record for _, record in SLICE.items(net.state) if record.holders]
        if not records:
            return []
        record = records[b % len(records)]
        holder = record.holders[c % len(record.holders)]
        allotment = ALLOTMENT.get(net.state, session.id + holder)
        after, digest = (allotment.charged_noz, allotment.digest) if allotment else (0, b"\0" * 32)
        length = 1 + c % record.spec.length
        served = net.served(
            session, key, holder, [DownloadTask(record.spec.digest, 0, length, 0)] * (1 + b % 3), after=after, digest=digest,
            epoch=max(0, net.epoch - c % 3),
        )  # fmt: skip
        if c % 7 == 0:
            served = ServedTasks(served.receipt, (*served.tasks, *served.tasks))
        return [net.entry(DownloadReceipts((served, served)[: 1 + c % 2]), net.by_address[holder])]

    def disputes(self, a: int, b: int, c: int) -> Sequence[Entry]:
        session, key = self.sessions[a % len(self.sessions)]
        holder = self.net.holders[b % 5]
        author = holder if c % 3 == 0 else key
        mismatch = b"m" * 32 if c % 3 == 1 else b""
        return [self.net.entry(Dispute(session.id, holder.address, 1 + c % 5_000, mismatch), author)]

    def repairs(self, b: int, c: int) -> Sequence[Entry]:
        orders = [order for _, order in REPAIR.items(self.net.state)]
        if not orders:
            return []
        order = orders[b % len(orders)]
        indices = list(range(1 + c % len(order.slices)))
        body = ReceiptBody(
            REPAIR_KIND, order.id, order.target, self.net.epoch,
            sum(order.slices[i].length for i in indices), indices_digest(indices),
        )  # fmt: skip
        receipt = sign_receipt(
            body,
            giver=self.net.by_address[order.sources[0][0]],
            taker=self.net.by_address[order.target],
            genesis_hash=self.net.genesis_hash,
        )
        body_entry = RepairReceipts((HeldIndices(receipt, tuple(indices)),))
        return [self.net.entry(body_entry, self.net.by_address[order.target])]

    def chain(self, a: int, b: int) -> Sequence[Entry]:
        """The chain answers what is in the outbox, or sells ozone, or repeats itself."""
        net = self.net
        entries: list[Entry] = []
        events = []
        for action in in_flight(net.state):
            message = sign_bytes(b"action", net.genesis_hash, action.message)
            entries += [
                net.entry(ActionSignature(action.id, key.sign(message)), key) for key in net.authorities[: 2 + b % 3]
            ]
            if b % 2:
                continue
            if is_report(action):
                epoch = IN_FLIGHT.get(net.state)
                events += [
                    event("report_included", epoch=epoch)
                    if a % 3
                    else event("report_refused", epoch=epoch, code="ozone_limit")
                ]
            else:
                events.append(event("action_included", action_id=action.id, node=action.node))
                if action.kind == "suspend":
                    events.append(event("suspended", node=action.node))
                elif action.kind in ("unsuspend", "set_effective_deposit"):
                    events.append(event("effective_deposit", node=action.node, amount=10**20))
        events.append(event("ozone_bought", beneficiary=net.users[a % 2].address, noz=b, sender=b"s" * 20, amount=1))
        if b % 5 == 0:
            events += [events[0], event("repair_credited", noz=b, node=net.holders[0].address)]
        return [net.chain(*events), *entries]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=FIND)
@given(script=steps)
def test_random_scripts_keep_the_books(script: list[tuple[int, int, int, int]]) -> None:
    """After every block records and totals agree, no receipt is paid twice, and both replicas have one root; replaying
    the log from genesis gives that root again."""
    played = Script()
    for action, a, b, c in script:
        played.play(action, a, b, c)
    late = played.net.new_application()
    for block, commit in played.net.blocks:
        late.commit(block, commit)
    assert late.state.root == played.net.state.root


def test_the_scripts_do_reach_money() -> None:
    """The generator is worth its time: a fixed script pays for uploads, downloads and a report."""
    played = Script()
    moves = [(2, 0, 0, 9), (3, 0, 1, 0), (0, 0, 0, 0), (1, 0, 0, 0), (7, 0, 0, 0), (8, 0, 0, 1), (8, 0, 0, 2)]
    for move in [*moves, (0, 0, 0, 3), (14, 1, 0, 0)]:
        played.play(*move)
    assert ozone.sheet(played.net.state)[ozone.REPORTED] > 0
    assert SESSION.get(played.net.state, played.sessions[0][0].id) is not None or played.accepted > 5
