"""Replay: a nonce may be used once per author within the request window (protocol 1).

Nonces live in rooms of one stretch of signing time each, so that remembering costs one key and forgetting drops a
whole room, a bounded number of keys per block. An entry older than the window or from the future is refused, so a
forgotten nonce can never come back.
"""

from blake3 import blake3

from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.errors import MetaError
from stratos.meta.rooms import nonce_room
from stratos.state import Branch, Reader
from stratos.wire.metalog import EntryRequest

FORGOTTEN_PER_BLOCK = 500
USED = b"1"


def window_ms(context: BlockContext) -> int:
    """How long a signed request may travel."""
    return context.params.request_window_seconds * 1000


def ahead_ms(context: BlockContext) -> int:
    """How far an author's clock may be ahead of block time: block time itself stands still between blocks."""
    pace = context.genesis.meta_consensus
    return milliseconds(pace.block_seconds + pace.clock_drift_seconds + pace.message_delay_seconds)


def check(reader: Reader, context: BlockContext, request: EntryRequest) -> bytes:
    """The key under which to remember this request; raises MetaError `window` or `nonce`."""
    age = context.time_ms - request.time_ms
    if age > window_ms(context) or -age > ahead_ms(context):
        raise MetaError(
            "window", f"the entry was signed {age} ms before block time; sign it anew with a clock that is right"
        )
    key = nonce_key(context, request)
    if reader.get(key) is not None:
        raise MetaError("nonce", f"nonce {request.nonce.hex()} was used before; sign the request anew with a fresh one")
    return key


def nonce_key(context: BlockContext, request: EntryRequest) -> bytes:
    """Room by signing time, then author and nonce."""
    bucket = request.time_ms // window_ms(context)
    return nonce_room(bucket) + blake3(request.author + request.nonce).digest()[:16]


def forget(branch: Branch, context: BlockContext) -> bool:
    """Drop nonces whose requests are too old anyway; True when more wait for the next block."""
    window = window_ms(context)
    done = 0
    # A bucket is void once its last request is out of the window; two more are looked at in case blocks were far apart.
    newest_void = context.time_ms // window - 2
    for bucket in range(max(0, newest_void - 2), newest_void + 1):
        for key, _ in list(branch.items(nonce_room(bucket))):
            if done == FORGOTTEN_PER_BLOCK:
                return True
            branch.delete(key)
            done += 1
    return False
