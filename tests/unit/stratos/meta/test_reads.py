"""What a meta node tells: proofs that hold against the header, lists in order, refusals that name what is missing."""

import pytest

from stratos.bft.blocks import header_hash
from stratos.crypto.merkle import merkle_root, verify_merkle
from stratos.meta.errors import MetaError
from stratos.meta.placement import Candidate, Lottery, placement_seed
from stratos.meta.reads import MetaReads
from stratos.meta.rehearsal import Rehearsal
from stratos.meta.rooms import ALLOTMENT, PLACEMENT, SESSION, u32
from stratos.meta.store import MetaStore
from stratos.state import State, StateProof, verify_state_proof
from stratos.wire.codec import decode, encode
from stratos.wire.metalog import Place, RemoveFile
from stratos.wire.transfer import MetaEvidence


class Reading:
    """A rehearsal whose application writes through a store, and reads over it."""

    def __init__(self) -> None:
        self.net = Rehearsal()
        state: State = self.net.app.state
        self.store = MetaStore(state, genesis=self.net.genesis, genesis_hash=self.net.genesis_hash)
        self.store.begin(self.net.validators)
        self.net.app._persist = self.store.persist
        self.reads = MetaReads(self.net.app, self.store)
        self.net.heartbeat()

    def holds(self, evidence: MetaEvidence, key: bytes, record: object, proof: bytes) -> bool:
        assert evidence.commit.block_hash == header_hash(evidence.header)
        return verify_state_proof(evidence.header.state_root, key, encode(record), decode(proof, StateProof))


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_session_tokens_are_proven(reading: Reading) -> None:
    """Session and allotment are proven against the root of the newest header."""
    session, _ = reading.net.open(max_noz=6_000, spread_noz=6_000)
    tokens = reading.reads.session_tokens(session.id, ()).tokens
    assert len(tokens) == 6
    for token in tokens:
        assert reading.holds(token.evidence, SESSION.prefix + session.id, token.session, token.session_proof)
        key = ALLOTMENT.prefix + session.id + token.holder
        assert reading.holds(token.evidence, key, token.allotment, token.allotment_proof)
    assert len(reading.reads.session_tokens(session.id, (reading.net.holders[0].address,)).tokens) == 1


def test_placements_are_waited_for_then_proven(reading: Reading) -> None:
    """None while the lottery waits, a proven placement afterwards, a named refusal for what was never asked."""
    net = reading.net
    session, key = net.open()
    net.run(net.entry(Place(session.id, b"u" * 16, 0, net.slices(100), 0, 0), key))
    assert reading.reads.placement(b"u" * 16, 0) is None
    net.step()
    net.step()
    answer = reading.reads.placement(b"u" * 16, 0)
    assert answer is not None
    token = answer.token
    assert reading.holds(token.evidence, PLACEMENT.prefix + b"u" * 16 + u32(0), token.placement, token.placement_proof)
    for upload, first in ((b"u" * 16, 7), (b"x" * 16, 0)):
        with pytest.raises(MetaError) as refusal:
            reading.reads.placement(upload, first)
        assert refusal.value.code == "upload"


def test_a_refused_placement_is_told(reading: Reading) -> None:
    """A lottery without enough places answers with its reason instead of waiting for ever."""
    net = reading.net
    net.heartbeat(disk_free=10)
    session, key = net.open()
    net.run(net.entry(Place(session.id, b"u" * 16, 0, net.slices(100), 0, 0), key))
    net.step()
    net.step()
    with pytest.raises(MetaError) as refusal:
        reading.reads.placement(b"u" * 16, 0)
    assert refusal.value.code == "holders"


def test_files_and_listings(reading: Reading) -> None:
    """A wallet's files come in order of name, page by page, with their live copies; other wallets have their own."""
    net = reading.net
    session, key = net.open(max_noz=10**8)
    for number in range(3):
        net.heartbeat()
        net.put(session, key, 100 + number, name=f"f{number}")
    wallet = session.wallet
    everything = reading.reads.files(wallet, b"", 10).files
    assert len(everything) == 3 and {file.copies for file in everything} == {4}
    assert sorted(file.file_cid for file in everything) == [file.file_cid for file in everything]
    first = reading.reads.files(wallet, b"", 1).files
    rest = reading.reads.files(wallet, first[0].file_cid, 10).files
    assert (*first, *rest) == everything
    assert reading.reads.files(net.users[1].address, b"", 10).files == ()
    answer = reading.reads.file(wallet, everything[0].file_cid)
    assert answer.complete and len(answer.slices) == 1


def test_an_upload_is_readable_before_it_is_complete(reading: Reading) -> None:
    """Slices with a durable copy and the progress note are shown; afterwards the same id answers with the file."""
    from stratos.wire.metalog import CompleteUpload, UploadReceipts

    net = reading.net
    session, key = net.open()
    upload = b"u" * 16
    placed = net.place(session, key, net.slices(100, 200), upload=upload)
    assert reading.reads.upload(upload).slices == ()
    held = net.held(key, upload, placed)
    net.run(net.entry(UploadReceipts(session.id, upload, held[:1], b"#EXTM3U"), key))
    answer = reading.reads.upload(upload)
    assert not answer.complete and answer.progress == b"#EXTM3U" and len(answer.slices) >= 1
    net.run(net.entry(CompleteUpload(session.id, upload, held[1:], (net.file(placed),)), key))
    assert reading.reads.upload(upload).complete


def test_a_slice_explains_its_lottery(reading: Reading) -> None:
    """The answer holds all that is needed to make the seed and draw the same holders again."""
    net = reading.net
    session, key = net.open()
    _, placed = net.put(session, key, 1_000)
    answer = reading.reads.slice(placed[0].spec.digest)
    header = reading.reads.evidence(answer.placed_height).header
    seed = placement_seed(
        digest=placed[0].spec.digest,
        wallet=answer.wallet,
        session=answer.session,
        certificate=header.last_commit_hash,
        beacon=answer.beacon,
    )
    assert seed == answer.seed and answer.chosen == placed[0].holders
    table = [Candidate(row.address, row.host, row.weight, row.tier, row.room) for row in answer.candidates]
    assert Lottery(table).choose(seed, count=4, length=1_000) == answer.chosen


def test_report_rows_rest_on_proven_receipts(reading: Reading) -> None:
    """A row's receipts hash to its leaf, the leaf leads to the report's root, and long rows come in pages."""
    net = reading.net
    session, key = net.open(max_noz=10**7)
    net.put(session, key, 1_000)
    net.to_epoch(2)
    from stratos.meta.rooms import REPORT, u64

    report = REPORT.get(net.state, u64(1))
    assert report is not None
    row = report.rows[0]
    answer = reading.reads.epoch_receipts(1, row.node)
    assert merkle_root([encode(receipt) for receipt in answer.receipts]) == answer.leaf.receipts_root
    assert verify_merkle(report.receipts_root, encode(answer.leaf), answer.index, answer.count, answer.path)
    assert answer.total == len(answer.receipts)
    assert reading.reads.epoch_receipts(1, row.node, answer.total).receipts == ()
    with pytest.raises(MetaError):
        reading.reads.epoch_receipts(9, row.node)


def test_drops_are_told_until_done(reading: Reading) -> None:
    """A holder is told what to delete and which height that list is complete for; saying so empties it."""
    from stratos.wire.metalog import NodeStatus

    net = reading.net
    session, key = net.open()
    file, placed = net.put(session, key, 1_000)
    holder = placed[0].holders[0]
    before = net.app.height
    net.run(net.entry(RemoveFile(file.file_cid), net.users[0]))
    assert reading.reads.has_news(holder, before) and not reading.reads.has_news(holder, net.app.height)
    answer = reading.reads.repairs(holder)
    assert answer.drop == (placed[0].spec.digest,) and answer.drops_height == net.app.height
    done = NodeStatus(10**12, 0, 0, False, "", "", answer.drops_height)
    net.run(net.entry(done, net.by_address[holder]))
    assert reading.reads.repairs(holder).drop == ()


def test_a_restarted_store_stands_where_it_stood(reading: Reading) -> None:
    """Tip, sets and blocks come back from what was written beside the state."""
    net = reading.net
    net.open()
    again = MetaStore(net.app.state, genesis=net.genesis, genesis_hash=net.genesis_hash)
    tip = again.tip(net.validators)
    assert (tip.height, tip.block_hash) == (net.app.height, net.last_hash)
    assert tip.next_validators == net.next_validators
    block = again.block(net.app.height)
    assert block is not None and block.block == net.blocks[-1][0]
    assert again.block(net.app.height + 1) is None
