"""The gateway as a player sees it: playlists, segments, ranges, refusals, over real HTTP on loopback."""

import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from stratos.client.errors import IntegrityError, NotEnoughOzone, NotFound
from stratos.client.gateway import Gateway, SegmentCache
from stratos.client.remote import RemoteFile
from stratos.client.video import Playlist, Segment
from stratos.crypto.cid import file_cid, multihash
from stratos.crypto.handle import Handle

LENGTHS = (700, 300, 500, 400)
BODY = bytes(range(256)) * 8
CONTENT = BODY[: sum(LENGTHS)]
SEGMENTS = tuple(Segment(10**6, length) for length in LENGTHS)
WALLET = b"w" * 20


def handle(text: bytes, *, video: bool) -> str:
    return str(Handle(WALLET, file_cid(multihash(text), video=video)))


VIDEO, PLAIN = handle(b"video", video=True), handle(b"plain", video=False)
UPLOAD = bytes(range(16))


class StoredFile(RemoteFile):
    """A file whose bytes are at hand; counts reads and fails when told to."""

    def __init__(self, content: bytes, *, note: bytes = b"", progress: bytes = b"", complete: bool = True) -> None:
        self.content, self.note, self.progress, self.complete = content, note, progress, complete
        self.size, self.video, self.name, self.handle = len(content), bool(note), "film.bin", ""
        self.reads: list[tuple[int, int]] = []
        self.lock = threading.Lock()
        self.broken = False
        self.growth: list[bytes] = []

    def refresh(self) -> None:
        if self.growth:
            self.progress = self.growth.pop(0)

    def read(self, offset: int, length: int) -> bytes:
        with self.lock:
            self.reads.append((offset, length))
        if self.broken:
            raise IntegrityError("bytes from every holder failed verification")
        return self.content[offset : offset + length]

    def stream(self, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        end = self.size if length is None else offset + length
        for start in range(offset, end, 100):
            yield self.read(start, min(100, end - start))


class Network:
    """What the client would find."""

    def __init__(self) -> None:
        note = Playlist(1, SEGMENTS, ended=True).encode()
        self.files = {VIDEO: StoredFile(CONTENT, note=note), PLAIN: StoredFile(CONTENT)}
        self.upload = StoredFile(CONTENT, progress=Playlist(1, SEGMENTS[:1]).encode(), complete=False)
        self.refusal: Exception | None = None
        self.unseen = 0

    def open(self, handle: str) -> RemoteFile:
        if self.refusal:
            raise self.refusal
        if handle not in self.files:
            raise NotFound(f"{handle} is not in the network")
        return self.files[handle]

    def open_upload(self, upload_id: bytes) -> RemoteFile:
        self.unseen = max(0, self.unseen - 1)
        if upload_id != UPLOAD or self.unseen:
            raise NotFound("no such upload")
        return self.upload


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def gateway(network: Network) -> Iterator[Gateway]:
    with Gateway(network, refresh_seconds=0.0, start_seconds=1.0) as gateway:
        yield gateway


def ask(gateway: Gateway, url: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    host = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=60)
    try:
        connection.request(method, url.removeprefix(gateway.url), headers={k.title(): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def test_a_player_gets_every_segment_of_a_video_in_order(gateway: Gateway) -> None:
    """Playlist entries resolve against its address and their bytes are the stored file."""
    url = gateway.video_url(VIDEO)
    status, headers, body = ask(gateway, url)
    assert status == 200 and headers["Content-Type"] == "application/vnd.apple.mpegurl"
    names = [line for line in body.decode().splitlines() if line.endswith(".ts")]
    got = [ask(gateway, url.replace("index.m3u8", name)) for name in names]
    assert b"".join(body for _, _, body in got) == CONTENT
    assert {headers["Content-Type"] for _, headers, _ in got} == {"video/mp2t"}


def test_two_segments_are_fetched_ahead_and_each_only_once(gateway: Gateway, network: Network) -> None:
    """Asking for segment 0 fetches 0, 1 and 2; asking for them again fetches only what is new."""
    url = gateway.video_url(VIDEO)
    for name in ("0.ts", "0.ts", "1.ts", "2.ts", "3.ts"):
        assert ask(gateway, url.replace("index.m3u8", name))[0] == 200
    offsets = sorted(network.files[VIDEO].reads)
    assert offsets == [(0, 700), (700, 300), (1000, 500), (1500, 400)]


def test_a_growing_upload_plays_before_it_is_whole(gateway: Gateway, network: Network) -> None:
    """An unfinished upload has an EVENT playlist that grows when asked again."""
    network.upload.growth = [Playlist(1, SEGMENTS[:2]).encode()]
    url = gateway.upload_url(UPLOAD)
    first = ask(gateway, url)[2].decode()
    assert "0.ts" in first and "1.ts" not in first and "ENDLIST" not in first
    assert ask(gateway, url.replace("index.m3u8", "0.ts"))[2] == CONTENT[:700]
    assert "1.ts" in ask(gateway, url)[2].decode()


def test_a_player_that_comes_early_waits_for_the_first_segment(gateway: Gateway, network: Network) -> None:
    """An upload without segments answers as soon as there is one, or says so after a deadline."""
    network.upload.progress = b""
    network.upload.growth = [b"", b"", Playlist(1, SEGMENTS[:1]).encode()]
    assert "0.ts" in ask(gateway, gateway.upload_url(UPLOAD))[2].decode()
    network.upload.progress = b""
    status, _, sentence = ask(gateway, gateway.upload_url(UPLOAD))
    assert status == 404 and b"no segment yet" in sentence


def test_an_upload_that_a_node_has_not_seen_yet_is_asked_for_again(gateway: Gateway, network: Network) -> None:
    """Reads may come from a node that lags a block behind."""
    network.unseen = 3
    assert "0.ts" in ask(gateway, gateway.upload_url(UPLOAD))[2].decode()
    assert network.unseen == 0


@pytest.mark.parametrize(
    ("wanted", "status", "start", "end"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=1850-", 206, 1850, 1900),
        ("bytes=-50", 206, 1850, 1900),
        ("bytes=1850-99999", 206, 1850, 1900),
        ("bytes=0-1,5-6", 200, 0, 1900),
        ("furlongs=1-2", 200, 0, 1900),
        (f"bytes={'9' * 5000}-", 200, 0, 1900),
    ],
)
def test_ranges_of_plain_files(gateway: Gateway, wanted: str, status: int, start: int, end: int) -> None:
    """One range gives exactly its bytes (RFC 9110); several or unknown units give the whole file."""
    got, headers, body = ask(gateway, gateway.file_url(PLAIN), range=wanted)
    assert (got, body) == (status, CONTENT[start:end])
    if status == 206:
        assert headers["Content-Range"] == f"bytes {start}-{end - 1}/1900"


@pytest.mark.parametrize("wanted", ["bytes=1900-", "bytes=5-2", "bytes=-0"])
def test_a_range_outside_the_file_is_refused_with_its_size(gateway: Gateway, wanted: str) -> None:
    """416 and the size, so that a player can correct itself."""
    status, headers, _ = ask(gateway, gateway.file_url(PLAIN), range=wanted)
    assert (status, headers["Content-Range"]) == (416, "bytes */1900")


def test_head_tells_the_size_and_reads_nothing(gateway: Gateway, network: Network) -> None:
    """HEAD costs no ozone."""
    status, headers, body = ask(gateway, gateway.file_url(PLAIN), method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "1900", b"")
    assert not network.files[PLAIN].reads


def test_handles_are_taken_as_people_paste_them(gateway: Gateway) -> None:
    """With or without sdm://, quoted or not, with a name behind or not."""
    bare = PLAIN.removeprefix("sdm://")
    for spelling in (bare, PLAIN, PLAIN.replace("/", "%2F"), bare + "/film.txt"):
        assert ask(gateway, f"/file/{spelling}")[2] == CONTENT
    assert ask(gateway, f"/file/{bare}/film.txt")[1]["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/file/nonsense", 400),
        ("/nonsense/index.m3u8", 400),
        (f"/{VIDEO.removeprefix('sdm://')}/9.ts", 404),
        (f"/{VIDEO.removeprefix('sdm://')}/x.ts", 404),
        ("/upload/zz/index.m3u8", 404),
        (f"/{PLAIN.removeprefix('sdm://')}/0.ts", 404),
        (f"/file/{handle(b'other', video=False).removeprefix('sdm://')}", 404),
    ],
)
def test_wrong_addresses_are_refused_in_a_sentence(gateway: Gateway, path: str, status: int) -> None:
    """Malformed is 400, absent is 404, and the body says what to do."""
    got, _, sentence = ask(gateway, path)
    assert got == status and sentence.strip()


def test_bytes_that_failed_verification_are_never_sent(gateway: Gateway, network: Network) -> None:
    """A segment or file whose bytes are bad is 502; a later good read succeeds."""
    network.files[VIDEO].broken = network.files[PLAIN].broken = True
    assert ask(gateway, gateway.video_url(VIDEO).replace("index.m3u8", "0.ts"))[0] == 502
    assert ask(gateway, gateway.file_url(PLAIN))[0] == 502
    network.files[VIDEO].broken = False
    assert ask(gateway, gateway.video_url(VIDEO).replace("index.m3u8", "0.ts"))[2] == CONTENT[:700]


def test_no_ozone_is_payment_required(gateway: Gateway, network: Network) -> None:
    """402 with the sentence that names prepay."""
    network.refusal = NotEnoughOzone("the wallet has 0 noz; prepay buys more")
    status, _, sentence = ask(gateway, gateway.file_url(PLAIN))
    assert status == 402 and b"prepay" in sentence


def test_the_cache_keeps_to_its_bytes() -> None:
    """Over the limit the oldest segments go first and are read again when asked for."""
    cache = SegmentCache(limit_bytes=250)
    reads: list[int] = []

    def fetch(index: int) -> bytes:
        def read() -> bytes:
            reads.append(index)
            return bytes(100)

        return cache.fetch("v", index, size=100, read=read).result(timeout=60)

    for index in (0, 1, 2, 2, 0):
        assert len(fetch(index)) == 100
    assert reads == [0, 1, 2, 0]
    cache.close()
