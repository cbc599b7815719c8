"""Cutting media into segments: lengths by the rule, files as they are made, playlists a player understands."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.demo.clip import make_clip
from stratos.client.errors import BadInput
from stratos.client.records import PutResult, UploadFile
from stratos.client.upload import Upload
from stratos.client.video import (
    Playlist,
    Segment,
    find_ffmpeg,
    parse_playlist,
    probe,
    put_video,
    segment_seconds,
    segments,
)
from stratos.crypto.cid import FileHasher

MIB = 1 << 20
MICROS = 10**6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=6, width=160, height=90, key_seconds=1)


class KeptUpload(Upload):
    """Keeps what the network would store and show."""

    def __init__(self, slice_bytes: int = 1 << 20) -> None:
        self.slice_bytes = slice_bytes
        self.id = b"i" * 16
        self.slices: list[bytes] = []
        self.published: list[tuple[int, Playlist]] = []
        self.files: Sequence[UploadFile] = ()
        self.aborted = False

    def add(self, data: bytes | bytearray | memoryview) -> int:
        self.slices.append(bytes(data))
        return len(self.slices) - 1

    def publish(self, progress: bytes = b"") -> None:
        self.published.append((len(self.slices), parse_playlist(progress)))

    def complete(self, files: Sequence[UploadFile]) -> list[PutResult]:
        self.files = files
        size = sum(map(len, self.slices))
        return [
            PutResult(
                handle="h", bytes=size, slices=len(self.slices), copies=4, charged_noz=0, degraded=False, seconds=0.0
            )
        ]

    def begin_upload(self, *, copies: int | None = None, expected_bytes: int = 0) -> Upload:
        return self

    def __enter__(self) -> "KeptUpload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.aborted = not self.files


def test_the_published_segment_length() -> None:
    """200 MiB of 600 s are cut every 83 s (protocol 7)."""
    assert segment_seconds(200 * MIB, 600 * MICROS) == 83


@given(size=st.integers(1, 2**45), duration_us=st.integers(1, 10**12))
def test_the_segment_length_is_the_smallest_whole_one_that_is_long_enough(size: int, duration_us: int) -> None:
    """d >= duration / N > d - 1, compared without roots or floats."""
    seconds = segment_seconds(size, duration_us)
    squared_segments_times_slice = max(size * 10 - 9 * 32 * MIB, 32 * MIB)

    def covers(d: int) -> bool:
        return (d * MICROS) ** 2 * squared_segments_times_slice >= duration_us**2 * 32 * MIB

    assert covers(seconds)
    assert seconds == 1 or not covers(seconds - 1)


def test_a_playlist_survives_its_note_and_bounds_are_kept() -> None:
    """Encoding and parsing are inverse; foreign notes and too many segments are refused in a sentence."""
    playlist = Playlist(5, (Segment(5 * MICROS, 10), Segment(1_500_000, 3)), ended=True)
    assert parse_playlist(playlist.encode()) == playlist
    assert playlist.span(1) == (10, 3)
    with pytest.raises(BadInput, match="no playlist"):
        parse_playlist(b"hello")
    with pytest.raises(BadInput, match="longer segments"):
        Playlist(1, (Segment(10**6, 10**6),) * 10_000).encode()


def test_an_unfinished_playlist_has_no_end_mark_and_a_finished_one_has() -> None:
    """Players poll an EVENT playlist until #EXT-X-ENDLIST appears."""
    growing = Playlist(2, (Segment(2_023_222, 10),)).m3u8()
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in growing and "#EXT-X-ENDLIST" not in growing
    assert "#EXTINF:2.023222,\n0.ts" in growing and "#EXT-X-TARGETDURATION:3" in growing
    assert Playlist(2, (Segment(1, 1),), ended=True).m3u8().endswith("#EXT-X-ENDLIST\n")


def test_probe_reads_duration_and_codecs(clip: Path) -> None:
    """What ffmpeg reports of a file becomes typed facts."""
    info = probe(clip)
    assert (info.video, info.audio) == ("h264", "aac")
    assert abs(info.duration_us - 6 * MICROS) < MICROS // 5


def test_a_file_that_is_no_media_is_refused(tmp_path: Path) -> None:
    """One sentence says that ffmpeg cannot play it."""
    path = tmp_path / "notes.txt"
    path.write_text("not a film")
    with pytest.raises(BadInput, match=r"notes\.txt"):
        probe(path)


def test_segments_are_playable_and_cover_the_whole(clip: Path, tmp_path: Path) -> None:
    """Each segment is media of its own and their durations add up to the clip's."""
    cut = [(duration, probe(file)) for duration, file in segments(clip, seconds=2, folder=tmp_path)]
    assert len(cut) == 3
    assert all(info.video == "h264" and info.audio == "aac" for _, info in cut)
    assert abs(sum(duration for duration, _ in cut) - 6 * MICROS) < MICROS // 5


def test_a_video_is_readable_while_it_is_put_and_named_after_its_original(clip: Path) -> None:
    """Each publication covers exactly slices that were added before it; the record carries the finished playlist."""
    upload = KeptUpload(slice_bytes=4096)
    put_video(upload, clip, seconds=2)
    stored = b"".join(upload.slices)
    assert [len(playlist.segments) for _, playlist in upload.published] == [1, 2]
    for count, playlist in upload.published:
        assert not playlist.ended
        assert sum(segment.length for segment in playlist.segments) <= sum(map(len, upload.slices[:count]))
    (record,) = upload.files
    playlist = parse_playlist(record.note)
    assert playlist.ended and sum(segment.length for segment in playlist.segments) == len(stored)
    assert record.slices == tuple(range(len(upload.slices))) and max(map(len, upload.slices)) == 4096
    hasher = FileHasher()
    hasher.update(clip.read_bytes())
    assert record.video and record.multihash == hasher.multihash()
    assert not upload.aborted


def test_the_stored_file_plays_as_a_whole(clip: Path, tmp_path: Path) -> None:
    """The segments put together are one unbroken MPEG-TS file of the clip's length, also for a strict player."""
    upload = KeptUpload()
    put_video(upload, clip, seconds=2)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(upload.slices))
    info = probe(joined)
    assert info.video == "h264" and abs(info.duration_us - 6 * MICROS) < MICROS // 2
    strict = [find_ffmpeg(), "-v", "error", "-nostdin", "-xerror", "-i", str(joined), "-f", "null", "-"]
    played = subprocess.run(strict, capture_output=True)
    assert (played.returncode, played.stderr) == (0, b"")


def test_a_failed_cut_aborts_the_upload(tmp_path: Path) -> None:
    """Media that breaks off mid-way leaves no file behind."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 4096)
    upload = KeptUpload()
    with pytest.raises(BadInput):
        put_video(upload, broken)
    assert not upload.files


def test_a_name_that_cannot_be_is_refused_before_anything_moves(clip: Path) -> None:
    """Segments are published, and so paid for, as they are made: a refusal at the end would be too late."""
    upload = KeptUpload()
    with pytest.raises(BadInput, match="name"):
        put_video(upload, clip, name="a/b")
    assert not upload.slices
