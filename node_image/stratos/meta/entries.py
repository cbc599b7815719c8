"""Log entries as signed bytes: making them, hashing them, and checking who signed (protocol 1).

A wallet (33-byte key) signs the Keccak digest, a session, node or authority (32-byte key) the bytes themselves. The check
is pure and needs no state, so it is done once per entry, in threads, before the entry reaches a pool. Receipts inside
an entry are signed by keys the state knows (a session's, a holder's); `receipt_checks` lists those signatures so that
they too can be checked ahead, into the cache which the machine then asks.
"""

from collections.abc import Callable, Iterator

from blake3 import blake3

from stratos.bft.signing import SignatureCheck
from stratos.crypto.errors import CryptoError
from stratos.crypto.keys import NodeKey, WalletKey, node_address, verify_node, verify_wallet, wallet_address
from stratos.crypto.signing import sign_bytes, wallet_digest
from stratos.meta.errors import MetaError
from stratos.wire import limits
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.metalog import (
    TAG_ENTRY,
    CompleteUpload,
    DownloadReceipts,
    Entry,
    EntryBody,
    EntryRequest,
    RepairReceipts,
    UploadReceipts,
)
from stratos.wire.receipts import TAG_RECEIPT, Receipt, ReceiptBody

WALLET_KEY_BYTES = 33


def sign_entry(body: EntryBody, *, key: WalletKey | NodeKey, genesis_hash: bytes, nonce: bytes, time_ms: int) -> Entry:
    """The entry with `body` signed by a wallet, session, node or authority key."""
    request = EntryRequest(body, nonce, time_ms, key.public_key)
    data = encode(request)
    if isinstance(key, WalletKey):
        return Entry(request, key.sign(wallet_digest(TAG_ENTRY, genesis_hash, data)))
    return Entry(request, key.sign(sign_bytes(TAG_ENTRY, genesis_hash, data)))


def entry_hash(data: bytes) -> bytes:
    """Name of an entry: BLAKE3 of its canonical bytes."""
    return blake3(data).digest()


def decode_entry(data: bytes) -> Entry:
    """The entry in `data`; raises MetaError `invalid`."""
    try:
        return decode(data, Entry, limit=limits.MAX_ENTRY_BYTES)
    except WireError as error:
        raise MetaError("invalid", str(error)) from error


def verify_entry(entry: Entry, genesis_hash: bytes) -> bool:
    """Whether the author's signature is right."""
    author = entry.request.author
    data = encode(entry.request)
    if len(author) == WALLET_KEY_BYTES:
        return verify_wallet(author, wallet_digest(TAG_ENTRY, genesis_hash, data), entry.signature)
    return verify_node(author, sign_bytes(TAG_ENTRY, genesis_hash, data), entry.signature)


def author_address(author: bytes) -> bytes:
    """Address of an entry's author: a wallet's or a node's; raises MetaError `signature` for a malformed key."""
    try:
        return wallet_address(author) if len(author) == WALLET_KEY_BYTES else node_address(author)
    except CryptoError as error:
        raise MetaError("signature", str(error)) from error


def receipt_message(body: ReceiptBody, genesis_hash: bytes) -> bytes:
    """What giver and taker of a receipt sign."""
    return sign_bytes(TAG_RECEIPT, genesis_hash, encode(body))


def sign_receipt(body: ReceiptBody, *, giver: NodeKey | None, taker: NodeKey | None, genesis_hash: bytes) -> Receipt:
    """A receipt with the signatures of those given (None: not signed by that side)."""
    message = receipt_message(body, genesis_hash)
    return Receipt(body, giver.sign(message) if giver else b"", taker.sign(message) if taker else b"")


def receipts_of(entry: Entry) -> Iterator[Receipt]:
    """All receipts an entry carries."""
    body = entry.request.body
    if isinstance(body, UploadReceipts | CompleteUpload | RepairReceipts | DownloadReceipts):
        for item in body.receipts:
            yield item.receipt


KeyOf = Callable[[Receipt], tuple[bytes | None, bytes | None]]
"""Public keys of (giver, taker) of a receipt, None where unknown."""


def receipt_checks(entry: Entry, *, keys: KeyOf, genesis_hash: bytes) -> list[SignatureCheck]:
    """Signatures of an entry's receipts that can be checked ahead of execution."""
    checks = []
    for receipt in receipts_of(entry):
        message = receipt_message(receipt.body, genesis_hash)
        for key, signature in zip(keys(receipt), (receipt.giver_signature, receipt.taker_signature), strict=True):
            if key is not None and len(signature) == 64:
                checks.append(SignatureCheck(key, message, signature))
    return checks
