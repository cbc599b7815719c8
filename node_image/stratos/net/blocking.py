"""The RPC client for threads and for Locust: one blocking TLS socket, one call at a time.

Same frames, same opening as `rpc`, no event loop. `connect_tls` is the door for bulk programs that want the proved
socket itself. Under gevent the socket calls yield as usual. A connection that broke or timed out in the middle of a
call is closed, because the next answer on it could belong to the call given up.
"""

import socket
import ssl
import threading
import time
from typing import TypeVar

import msgspec
from msgspec import Struct

from stratos.net.connection import CALL_TIMEOUT_SECONDS, response_decoder
from stratos.net.frames import Frame, FrameDecoder, FrameError, encode_frame
from stratos.net.peers import Identity, PeerUnreachable, RpcRefused, RpcTimeout
from stratos.net.rpc import CONNECT_SECONDS, check_challenge, make_hello
from stratos.net.tls import client_context, server_key
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.rpc import (
    CLASS_GUEST,
    KIND_ERROR,
    KIND_NOTIFY,
    KIND_REQUEST,
    KIND_RESPONSE,
    Challenge,
    ErrorBody,
)

R = TypeVar("R")
RECEIVE_BYTES = 256 * 1024


def connect_tls(
    host: str, port: int, *, expected_key: bytes | None, timeout_seconds: float = CONNECT_SECONDS
) -> ssl.SSLSocket:
    """A TLS socket whose server proved `expected_key`; raises PeerUnreachable."""
    try:
        plain = socket.create_connection((host, port), timeout=timeout_seconds)
    except OSError as error:
        raise PeerUnreachable(f"cannot connect to {host}:{port}: {error.strerror or error}; is the node up?") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = client_context().wrap_socket(plain, server_hostname=None)
    except OSError as error:
        plain.close()
        raise PeerUnreachable(f"no TLS with {host}:{port}: {error}; is this a stratos node's port?") from error
    try:
        proved = server_key(secure)
        if expected_key is not None and proved != expected_key:
            raise PeerUnreachable(
                f"{host}:{port} has node key {proved.hex()[:16]}, expected {expected_key.hex()[:16]}; check the endpoint"
            )
    except PeerUnreachable:
        secure.close()
        raise
    return secure


class BlockingRpcClient:
    """Calls over one blocking connection. Threads may share it; they take turns."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        expected_key: bytes | None,
        identity: Identity | None = None,
        peer_class: str = CLASS_GUEST,
        genesis_hash: bytes | None = None,
        timeout_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._where = f"{host}:{port}"
        self._lock = threading.Lock()
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []
        self._next_id = 0
        self._socket: ssl.SSLSocket | None = connect_tls(
            host, port, expected_key=expected_key, timeout_seconds=timeout_seconds
        )
        try:
            self.server_key = server_key(self._socket)
            deadline = time.monotonic() + timeout_seconds
            challenge = self._challenge(deadline)
            check_challenge(challenge, genesis_hash=genesis_hash, certificate_key=self.server_key)
            if identity is not None and peer_class != CLASS_GUEST:
                hello = make_hello(
                    challenge, identity=identity, peer_class=peer_class, genesis_hash=challenge.genesis_hash
                )
                self._send(encode_frame(KIND_REQUEST, 0, encode(hello)), deadline)
        except OSError as error:  # the deadline, too: the peer was slow to say who it is
            self.close()
            raise PeerUnreachable(
                f"{self._where} took no hello: {str(error) or type(error).__name__}; is the node up?"
            ) from error
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """True after close or a broken call."""
        return self._socket is None

    def call(self, request: Struct, kind: type[R], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> R:
        """Ask and return the answer of type `kind`; raises RpcRefused, RpcTimeout, PeerUnreachable."""
        with self._lock:
            deadline = time.monotonic() + timeout_seconds
            self._next_id = self._next_id % 0xFFFFFFFF + 1
            try:
                self._send(encode_frame(KIND_REQUEST, self._next_id, encode(request)), deadline)
                frame = self._answer(self._next_id, deadline)
            except TimeoutError as error:
                self.close()
                raise RpcTimeout(
                    f"no answer to {type(request).__name__} from {self._where} within {timeout_seconds:g} s"
                ) from error
            except (OSError, FrameError, WireError) as error:
                self.close()
                raise PeerUnreachable(f"the connection to {self._where} broke: {error}; connect again") from error
            except PeerUnreachable:
                self.close()
                raise
        return self._decoded(frame, kind)

    def notify(self, message: Struct, *, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> None:
        """Send a message without an answer."""
        with self._lock:
            try:
                self._send(encode_frame(KIND_NOTIFY, 0, encode(message)), time.monotonic() + timeout_seconds)
            except OSError as error:
                self.close()
                raise PeerUnreachable(f"the connection to {self._where} broke: {error}; connect again") from error

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> "BlockingRpcClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _challenge(self, deadline: float) -> Challenge:
        try:
            frame = self._receive(deadline)
            if frame.kind == KIND_ERROR:
                self._decoded(frame, Challenge)
            return decode(frame.body, Challenge)
        except (OSError, FrameError, WireError) as error:
            raise PeerUnreachable(f"{self._where} did not open with a challenge: {error}; is the node up?") from error

    def _answer(self, request_id: int, deadline: float) -> Frame:
        while True:
            frame = self._receive(deadline)
            if frame.kind == KIND_ERROR and frame.request_id == 0:
                self.close()
                return frame
            if frame.request_id == request_id and frame.kind in (KIND_RESPONSE, KIND_ERROR):
                return frame

    def _decoded(self, frame: Frame, kind: type[R]) -> R:
        try:
            if frame.kind == KIND_ERROR:
                body = response_decoder(ErrorBody).decode(frame.body)
                raise RpcRefused(body.code, body.sentence)
            return response_decoder(kind).decode(frame.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RpcRefused("invalid", f"the answer of {self._where} is malformed: {error}") from error

    def _send(self, data: bytes, deadline: float) -> None:
        self._open_socket(deadline).sendall(data)

    def _receive(self, deadline: float) -> Frame:
        while not self._frames:
            data = self._open_socket(deadline).recv(RECEIVE_BYTES)
            if not data:
                raise PeerUnreachable(f"{self._where} closed the connection; connect again or use another node")
            self._frames = list(self._decoder.feed(data))
            self._frames.reverse()
        return self._frames.pop()

    def _open_socket(self, deadline: float) -> ssl.SSLSocket:
        if self._socket is None:
            raise PeerUnreachable(f"the connection to {self._where} is closed; connect again")
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket
