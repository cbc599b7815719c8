"""Serving slices: paid downloads step by step, repair copies for other holders, possession proofs for anybody.

A step's bytes are read and verified against the slice's hash tree before they are sent, and sent only after the client's
cumulative receipt for that step is in the books. If a slice turns out damaged in the middle of a step, the step is taken
back, so a client never owes for bytes this node could not deliver.
"""

from stratos.crypto.keys import node_address, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.resource.accounts import AccountError, receipt_bytes
from stratos.resource.frames import BulkSocket
from stratos.resource.pieces import PIECE, piece_count, piece_path, range_proof
from stratos.resource.services import Services
from stratos.resource.store import CorruptSlice, MissingSlice, SliceReader
from stratos.wire.limits import MAX_COPIES
from stratos.wire.metalog import RepairOrder
from stratos.wire.receipts import REPAIR, DownloadTask, Receipt, indices_digest
from stratos.wire.transfer import (
    TAG_POSSESSION,
    AccountState,
    AskAccount,
    FetchReceipt,
    FetchSlice,
    FetchStart,
    PossessionProof,
    ProvePossession,
    ReadDone,
    ReadSlice,
    ReadStart,
    StepReceipt,
    step_lengths,
)


class ReadRefused(Exception):
    """A request that cannot be served; the connection goes on unless `fatal`."""

    def __init__(self, sentence: str, code: int = -6, *, fatal: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code
        self.fatal = fatal


def serve_read(services: Services, link: BulkSocket, caller: bytes, request: ReadSlice) -> None:
    """One ReadSlice from its first receipt to ReadDone; raises ReadRefused, AccountError, TokenError."""
    if request.token is not None:
        session, allotment, until_ms = services.verifier.session(request.token, holder=services.key.address)
        if session.id != request.session:
            raise ReadRefused("the token is of another session than the request; show the right one", -7)
        services.books.open_session(session, allotment, until_ms)
    key = services.books.session_key(request.session)
    if key is None:
        raise ReadRefused(f"session {request.session.hex()} is not known here; show its token first")
    if key != caller:
        raise ReadRefused("this connection's key is not the session's; connect with the session's key", -3)
    if services.books.is_stale(request.session, services.now_ms()):
        raise ReadRefused(f"the token of session {request.session.hex()} is too old; show a fresh one", -5)
    if request.attempt > MAX_COPIES:
        raise ReadRefused(f"attempt {request.attempt} is over {MAX_COPIES}", -7)
    with _opened(services, request.slice_digest) as reader:
        end = request.offset + request.length
        whole = request.offset % PIECE == 0 and (end % PIECE == 0 or end == reader.length)
        if not whole or request.length < 1 or end > reader.length:
            raise ReadRefused(
                f"range {request.offset}+{request.length} is not whole pieces of a slice of {reader.length} bytes", -4
            )
        _serve_steps(services, link, request, reader)


def _serve_steps(services: Services, link: BulkSocket, request: ReadSlice, reader: SliceReader) -> None:
    offset = request.offset
    receipt = request.receipt
    with services.buffers.borrow() as buffer:
        for number, length in enumerate(step_lengths(request.length)):
            try:
                # The step's first bytes are proven good before its receipt is taken.
                count = reader.read_into(buffer[:length], offset)
            except CorruptSlice as error:
                raise ReadRefused(str(error), fatal=number > 0) from error
            if number:
                receipt = link.expect(StepReceipt).receipt
            task = DownloadTask(request.slice_digest, offset, length, request.attempt)
            try:
                services.books.admit(request.session, receipt, task)
            except AccountError as error:
                raise ReadRefused(error.sentence, error.code, fatal=number > 0) from error
            if not number:
                link.send(_read_start(request, reader), flush=False)
            _send_step(services, link, request, reader, buffer, offset=offset, length=length, ready=count)
            offset += length
    link.send(ReadDone(services.books.signed_receipt(request.session)))


def _send_step(
    services: Services,
    link: BulkSocket,
    request: ReadSlice,
    reader: SliceReader,
    buffer: memoryview,
    *,
    offset: int,
    length: int,
    ready: int,
) -> None:
    sent = 0
    while True:
        link.send_data(buffer[:ready], flush=sent + ready < length)
        sent += ready
        services.counters.add("served_bytes", ready)
        if sent == length:
            return
        try:
            ready = reader.read_into(buffer[: length - sent], offset + sent)
        except CorruptSlice as error:
            services.books.void_last(request.session)
            raise ReadRefused(str(error), fatal=True) from error


def _read_start(request: ReadSlice, reader: SliceReader) -> ReadStart:
    if not request.want_proof:
        return ReadStart(request.offset, request.length, reader.length, (), (), ())
    first = request.offset // PIECE
    last = piece_count(request.offset + request.length) - 1
    left, right = range_proof(reader.hashes, first, last)
    return ReadStart(request.offset, request.length, reader.length, left, right, reader.hashes[first : last + 1])


def serve_account(services: Services, link: BulkSocket, caller: bytes, request: AskAccount) -> None:
    """Tell a session's owner where its account stands."""
    key = services.books.session_key(request.session)
    if key is not None and key != caller:
        raise ReadRefused("this connection's key is not the session's; connect with the session's key", -3)
    link.send(AccountState(services.books.last_receipt(request.session)))


def serve_fetch(services: Services, link: BulkSocket, caller: bytes, request: FetchSlice, order: RepairOrder) -> None:
    """Give one slice of a repair order to its new holder and co-sign that holder's receipt."""
    if node_address(caller) != order.target:
        raise ReadRefused("only the target of a repair order may fetch its slices", -3)
    if request.index >= len(order.slices) or services.key.address not in order.sources[request.index]:
        raise ReadRefused(f"this node is not a source of slice {request.index} of that repair order")
    spec = order.slices[request.index]
    with _opened(services, spec.digest) as reader, services.buffers.borrow() as buffer:
        link.send(FetchStart(reader.length), flush=False)
        offset = 0
        while offset < reader.length:
            try:
                count = reader.read_into(buffer, offset)
            except CorruptSlice as error:
                raise ReadRefused(str(error), fatal=True) from error
            link.send_data(buffer[:count], flush=False)
            offset += count
    link.flush()
    answer = link.expect(FetchReceipt)
    link.send(FetchReceipt(_cosigned(services, answer, order, request, caller), answer.indices))
    services.counters.add("served_bytes", spec.length)


def _cosigned(
    services: Services, answer: FetchReceipt, order: RepairOrder, request: FetchSlice, caller: bytes
) -> Receipt:
    body = answer.receipt.body
    indices = answer.indices
    fits = (
        body.kind == REPAIR
        and body.task == order.id
        and body.earner == order.target
        and abs(body.epoch - services.epoch()) <= 1
        and request.index in indices
        and all(index < len(order.slices) for index in indices)
        and len(set(indices)) == len(indices)
        and body.total_noz == sum(order.slices[index].length for index in indices)
        and body.digest == indices_digest(indices)
    )
    if not fits:
        raise ReadRefused(
            "the repair receipt does not fit its order; sign for the slices that are durable", -7, fatal=True
        )
    signed = receipt_bytes(services.genesis_hash, body)
    if not verify_node(caller, signed, answer.receipt.taker_signature):
        raise ReadRefused("the repair receipt's signature is wrong; sign it with the node's key", -3, fatal=True)
    return Receipt(body, services.key.sign(signed), answer.receipt.taker_signature)


def serve_possession(services: Services, link: BulkSocket, request: ProvePossession) -> None:
    """Prove that one piece of a slice is here now."""
    with _opened(services, request.slice_digest) as reader:
        count = piece_count(reader.length)
        if request.piece >= count:
            raise ReadRefused(f"piece {request.piece} of a slice of {count} pieces", -7)
        piece = bytearray(PIECE)
        try:
            length = reader.read_into(memoryview(piece), request.piece * PIECE)
        except CorruptSlice as error:
            raise ReadRefused(str(error)) from error
        path = piece_path(reader.hashes, request.piece)
        body = request.nonce + reader.hashes[request.piece]
        signature = services.key.sign(sign_bytes(TAG_POSSESSION, services.genesis_hash, body))
        link.send(PossessionProof(bytes(piece[:length]), path, count, signature))


def _opened(services: Services, digest: bytes) -> SliceReader:
    try:
        return services.store.open(digest)
    except (MissingSlice, CorruptSlice) as error:
        raise ReadRefused(str(error)) from error
