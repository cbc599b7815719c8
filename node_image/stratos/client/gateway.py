"""Video and files out: a small local HTTP server, so that any player or browser can read from the network.

It runs on the user's machine, on loopback, with the user's client: the client pays and verifies, the gateway speaks
HTTP. Paths (a handle with or without `sdm://`, quoted or not):

    /<wallet>/<file CID>/index.m3u8   and /<n>.ts        a video, segment by segment
    /upload/<upload id>/index.m3u8    and /<n>.ts        a video that is still being put: a growing EVENT playlist
    /file/<wallet>/<file CID>[/name]                     any file, with Range requests

A player that asks for segment n will ask for n+1, so two segments ahead are fetched into a bounded cache; one segment
is fetched once however many viewers ask for it. A byte that failed verification is never sent.
"""

import mimetypes
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from stratos.client.errors import (
    BadInput,
    ClientError,
    IntegrityError,
    NotEnoughOzone,
    NotFound,
)
from stratos.client.remote import RemoteFile
from stratos.client.video import Playlist, parse_playlist
from stratos.crypto.handle import HandleError, parse_handle
from stratos.wire.limits import MIB

PREFETCH = 2
NEW_UPLOAD_SECONDS = 2.0
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_SEGMENT = re.compile(r"([0-9]{1,6})\.ts")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_STATUS: tuple[tuple[type[ClientError], HTTPStatus], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (NotEnoughOzone, HTTPStatus.PAYMENT_REQUIRED),
    (BadInput, HTTPStatus.BAD_REQUEST),
    (IntegrityError, HTTPStatus.BAD_GATEWAY),
    (ClientError, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Reader(Protocol):
    """The part of `Client` that the gateway needs."""

    def open(self, handle: str) -> RemoteFile: ...

    def open_upload(self, upload_id: bytes) -> RemoteFile: ...


class SegmentCache:
    """Segments by (source, index), fetched once by a few threads, dropped oldest first over `limit_bytes`."""

    def __init__(self, *, limit_bytes: int = 256 * MIB, threads: int = 4) -> None:
        self._limit = limit_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gateway-fetch")
        self._entries: OrderedDict[tuple[str, int], tuple[Future[bytes], int]] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, source: str, index: int, *, size: int, read: Callable[[], bytes]) -> "Future[bytes]":
        """The segment, already on its way or started now."""
        key = (source, index)
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None or (entry[0].done() and (entry[0].cancelled() or entry[0].exception() is not None)):
                entry = (self._pool.submit(read), size)
            self._entries[key] = entry
            while len(self._entries) > 1 and sum(held for _, held in self._entries.values()) > self._limit:
                self._entries.popitem(last=False)
        return entry[0]

    def close(self) -> None:
        """Forget everything and stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Gateway:
    """Serves `client`'s network on http://host:port; use as a context manager or `start` and `stop`."""

    def __init__(
        self,
        client: Reader,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        cache_bytes: int = 256 * MIB,
        max_requests: int = 64,
        refresh_seconds: float = 0.2,
        start_seconds: float = 10.0,
    ) -> None:
        self.client = client
        self.cache = SegmentCache(limit_bytes=cache_bytes)
        self.slots = threading.BoundedSemaphore(max_requests)
        self.refresh_seconds = refresh_seconds
        self.start_seconds = start_seconds
        self._stopping = threading.Event()
        self._files: OrderedDict[str, RemoteFile] = OrderedDict()
        self._refreshed: dict[str, float] = {}
        self._lock = threading.Lock()
        gateway = self

        class Handler(_Handler):
            owner = gateway

        self._server = _Server((host, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="gateway", daemon=True)

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def video_url(self, handle: str) -> str:
        """Where a player finds a stored video."""
        parsed = parse_handle(handle)
        wallet, cid = str(parsed).removeprefix("sdm://").split("/")[:2]
        return f"{self.url}/{wallet}/{cid}/index.m3u8"

    def upload_url(self, upload_id: bytes) -> str:
        """Where a player finds a video that is still being put."""
        return f"{self.url}/upload/{upload_id.hex()}/index.m3u8"

    def file_url(self, handle: str) -> str:
        """Where any HTTP client finds a stored file."""
        return f"{self.url}/file/{quote(handle.removeprefix('sdm://'))}"

    def start(self) -> None:
        """Serve in a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; running answers are cut."""
        self._stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self.cache.close()

    def serve(self) -> None:
        """Serve in the calling thread until interrupted."""
        self._server.serve_forever(0.1)

    def __enter__(self) -> "Gateway":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def remote(self, source: str) -> RemoteFile:
        """The file behind `upload/<hex>` or `<wallet>/<cid>`; an unfinished upload is looked at again now and then."""
        with self._lock:
            file = self._files.get(source)
        if file is None:
            is_upload = source.startswith("upload/")
            file = (
                self.client.open_upload(bytes.fromhex(source.removeprefix("upload/")))
                if is_upload
                else self.client.open(f"sdm://{source}")
            )
            with self._lock:
                self._files[source] = file
                self._refreshed[source] = time.monotonic()
                while len(self._files) > 256:
                    dropped, _ = self._files.popitem(last=False)
                    self._refreshed.pop(dropped, None)
        elif not file.complete and time.monotonic() - self._refreshed.get(source, 0.0) > self.refresh_seconds:
            file.refresh()
            self._refreshed[source] = time.monotonic()
        return file

    def playlist(self, source: str) -> Playlist:
        """The playlist of a video, finished or not."""
        file = self.remote(source)
        note = file.note or file.progress
        if file.complete and not note:
            raise NotFound(f"{source} is not a video; ask for /file/{source}, or put it again with --video")
        return parse_playlist(note) if note else Playlist(target_seconds=1)

    def playable(self, source: str) -> Playlist:
        """The playlist once it has a first segment: players give up on an empty one. Raises NotFound after the deadline."""
        began = time.monotonic()
        while True:
            try:
                playlist = self.playlist(source)
            except NotFound:
                # The meta node that was asked may not have seen a new upload yet.
                if not source.startswith("upload/") or time.monotonic() - began > NEW_UPLOAD_SECONDS:
                    raise
            else:
                if playlist.segments:
                    return playlist
            if time.monotonic() - began > self.start_seconds or self._stopping.wait(self.refresh_seconds):
                raise NotFound(f"{source} has no segment yet after {self.start_seconds:.0f} s; is it still being put?")

    def segment(self, source: str, index: int) -> bytes:
        """One verified segment; starts fetching the two after it. Raises NotFound past the end."""
        playlist = self.playlist(source)
        if index >= len(playlist.segments):
            raise NotFound(f"segment {index} of {source} does not exist; the playlist has {len(playlist.segments)}")
        file = self.remote(source)
        wanted, *_ = [
            self.cache.fetch(source, number, size=span[1], read=_span_reader(file, span))
            for number in range(index, min(index + 1 + PREFETCH, len(playlist.segments)))
            for span in (playlist.span(number),)
        ]
        return wanted.result()


def _span_reader(file: RemoteFile, span: tuple[int, int]) -> Callable[[], bytes]:
    def read() -> bytes:
        data = file.read(*span)
        if len(data) != span[1]:
            raise IntegrityError(f"the network gave {len(data)} of {span[1]} bytes of a segment; try again")
        return data

    return read


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A player that hangs up in the middle is no event; anything else is a defect and is shown as one."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: Gateway
    protocol_version = "HTTP/1.1"
    server_version = "stratos-gateway"
    sys_version = ""
    timeout = 60
    # Headers and body are two writes; without this the second waits for the first one's delayed acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing is printed: library code, and players ask often."""

    def _answer(self) -> None:
        if not self.owner.slots.acquire(blocking=False):
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "the gateway is serving as many requests as it may; try again")
            return
        try:
            self._route(unquote(urlsplit(self.path).path).strip("/"))
        except HandleError as error:
            self._say(HTTPStatus.BAD_REQUEST, str(error))
        except ClientError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            self._say(status, error.sentence)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        finally:
            self.owner.slots.release()

    def _route(self, path: str) -> None:
        if path in ("", "health"):
            self._say(HTTPStatus.OK, "stratos gateway: /<wallet>/<cid>/index.m3u8, /file/<wallet>/<cid>")
            return
        if path.startswith("file/"):
            self._file(path.removeprefix("file/"))
            return
        source, _, leaf = path.rpartition("/")
        source = _source(source)
        if leaf == "index.m3u8":
            body = self.owner.playable(source).m3u8().encode()
            self._send(body, "application/vnd.apple.mpegurl", fresh=True)
        elif (found := _SEGMENT.fullmatch(leaf)) is not None:
            self._send(self.owner.segment(source, int(found[1])), "video/mp2t", fresh=False)
        else:
            raise NotFound(f"there is nothing at /{path}; ask for index.m3u8 or /file/<handle>")

    def _file(self, text: str) -> None:
        handle = parse_handle("sdm://" + _unschemed(text))
        file = self.owner.remote(_source(_unschemed(text)))
        name = handle.name or file.name
        kind = "video/mp2t" if file.video else (mimetypes.guess_type(name)[0] or "application/octet-stream")
        span = _range(self.headers.get("Range"), file.size)
        if span is None:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{file.size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first, length, partial = span
        # The first bytes are fetched before the status is sent, so a file that cannot be read is an error, not a cut.
        chunks = file.stream(offset=first, length=length) if length and self.command == "GET" else iter(())
        head = next(chunks, b"")
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{first + length - 1}/{file.size}")
        self._headers(kind, length, fresh=False)
        try:
            self._write(head, chunks)
        except ClientError:
            self.close_connection = True

    def _write(self, head: bytes, chunks: Iterator[bytes]) -> None:
        self.wfile.write(head)
        for chunk in chunks:
            self.wfile.write(chunk)

    def _send(self, body: bytes, kind: str, *, fresh: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self._headers(kind, len(body), fresh=fresh)
        if self.command == "GET":
            self.wfile.write(body)

    def _headers(self, kind: str, length: int, *, fresh: bool) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cache-Control", "no-cache" if fresh else "max-age=31536000, immutable")
        self.end_headers()

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        body = sentence.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _unschemed(text: str) -> str:
    return re.sub(r"^sdm:/+", "", text)


def _source(text: str) -> str:
    """`upload/<hex>` or `<wallet>/<cid>` (one spelling per video); raises HandleError or NotFound."""
    if text.startswith("upload/"):
        if _UPLOAD.fullmatch(text.removeprefix("upload/")) is None:
            raise NotFound(f"{text[:80]!r} names no upload; an upload id has 32 hexadecimal digits")
        return text
    parsed = parse_handle("sdm://" + _unschemed(text))
    return "/".join(str(parsed).removeprefix("sdm://").split("/")[:2])


def _range(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """(first, length, partial) of a request, None when it cannot be satisfied; several ranges give the whole file."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return 0, size, False
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, length, True) if length else None
    end = min(int(last), size - 1) if last else size - 1
    if int(first) > end:
        return None
    return int(first), end - int(first) + 1, True
