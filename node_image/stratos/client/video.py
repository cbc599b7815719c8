"""Video in: real media cut into HLS segments while it is uploaded (protocol 7).

ffmpeg writes MPEG-TS segments and names each one the moment it is whole; its bytes become slices of one upload, and
the playlist so far is published with them, so players start before the file has been read to its end. The stored file
is the segments in order (MPEG-TS may be joined by plain concatenation, so `get` gives a playable file); its name is the
video CID of the original. Streams that MPEG-TS cannot carry are re-encoded, all others are copied bit by bit.

The playlist travels as the `note` of the file record (`progress` of an unfinished upload): durations in microseconds
and lengths in bytes, from which a gateway makes an .m3u8 and finds every segment. ffmpeg comes from the PATH, else from
the wheel `imageio-ffmpeg`.
"""

import contextlib
import importlib
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import ceil, isqrt
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct

from stratos.client.errors import BadInput, Environment
from stratos.client.records import PutResult, UploadFile
from stratos.client.upload import Upload, require_name
from stratos.crypto.cid import FileHasher
from stratos.wire.limits import KIB, MIB, SLICE_BYTES

TS_VIDEO = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})
TS_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3"})
MAX_NOTE_BYTES = 64 * KIB
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d)\.(\d+)")
_STREAM = re.compile(r"Stream #\d+:\d+.*?: (Video|Audio): (\w+)(.*)")
_HASH_CHUNK = 1 * MIB
CONTAINER_BYTES = 1 * MIB
"""Upper bound on what MPEG-TS adds to a short clip; a quarter of the size covers long ones. Set aside, not charged."""


class UploadStarter(Protocol):
    """The part of `Client` that putting a video needs."""

    @property
    def slice_bytes(self) -> int: ...

    def begin_upload(self, *, copies: int | None = None, expected_bytes: int = ...) -> Upload: ...


class MediaInfo(Struct, frozen=True):
    """What ffmpeg says a file contains. `video` and `audio` are codec names, "" when there is none."""

    duration_us: int
    video: str
    audio: str


class Segment(Struct, frozen=True, array_like=True):
    """One segment: how long it plays, how many bytes it has."""

    duration_us: Annotated[int, Meta(ge=0, le=10**12)]
    length: Annotated[int, Meta(ge=1, le=2**40)]


class Playlist(Struct, frozen=True, forbid_unknown_fields=True):
    """All segments so far, in order. `ended` False: more will follow."""

    target_seconds: Annotated[int, Meta(ge=1, le=10**6)]
    segments: Annotated[tuple[Segment, ...], Meta(max_length=65_536)] = ()
    ended: bool = False
    version: Annotated[int, Meta(ge=1, le=1)] = 1

    def encode(self) -> bytes:
        """The note: JSON of at most 64 KiB; raises BadInput when there are too many segments."""
        note = msgspec.json.encode(self)
        if len(note) > MAX_NOTE_BYTES:
            raise BadInput(f"{len(self.segments)} segments do not fit one playlist; use longer segments")
        return note

    def span(self, index: int) -> tuple[int, int]:
        """(offset, length) of a segment in the stored file."""
        return sum(segment.length for segment in self.segments[:index]), self.segments[index].length

    def m3u8(self) -> str:
        """The HLS playlist, segments named `<n>.ts`; without an end mark while more is to come."""
        longest = max((ceil(Fraction(segment.duration_us, 10**6)) for segment in self.segments), default=1)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{max(self.target_seconds, longest)}",
            "#EXT-X-MEDIA-SEQUENCE:0",
            f"#EXT-X-PLAYLIST-TYPE:{'VOD' if self.ended else 'EVENT'}",
        ]
        for index, segment in enumerate(self.segments):
            seconds, micros = divmod(segment.duration_us, 10**6)
            lines += [f"#EXTINF:{seconds}.{micros:06d},", f"{index}.ts"]
        return "\n".join([*lines, "#EXT-X-ENDLIST"] if self.ended else lines) + "\n"


def parse_playlist(note: bytes) -> Playlist:
    """The playlist in a note; raises BadInput when the note is something else."""
    try:
        return msgspec.json.decode(note, type=Playlist)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"this file carries no playlist ({error}); put it again with --video") from error


def segment_seconds(size: int, duration_us: int) -> int:
    """d = ceil(duration / N) s with N = sqrt(10 * max(1, size / 32 MiB) - 9) (protocol 7), in exact integers."""
    squared_segments = 10 * max(Fraction(1), Fraction(size, SLICE_BYTES)) - 9
    squared_seconds = Fraction(duration_us, 10**6) ** 2 / squared_segments
    return isqrt(max(ceil(squared_seconds), 1) - 1) + 1


def find_ffmpeg() -> str:
    """ffmpeg on the PATH, else the wheel's; raises Environment when there is neither."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        wheel: Any = importlib.import_module("imageio_ffmpeg")  # optional: not a part of the node's own distribution
        return str(wheel.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise Environment("ffmpeg was not found; install it or `pip install imageio-ffmpeg`") from error


def probe(path: Path, *, ffmpeg: str | None = None) -> MediaInfo:
    """Duration and codecs of a media file; raises BadInput when it is none."""
    command = [ffmpeg or find_ffmpeg(), "-hide_banner", "-nostdin", "-i", str(path)]
    told = subprocess.run(command, capture_output=True, check=False).stderr.decode(errors="replace")
    codecs = {"Video": "", "Audio": ""}
    for kind, codec, rest in _STREAM.findall(told):
        if "(attached pic)" not in rest:
            codecs[kind] = codecs[kind] or codec
    duration = _DURATION.search(told)
    if duration is None or not any(codecs.values()):
        reason = (told.strip().splitlines() or ["no output"])[-1]
        raise BadInput(f"{path} is not media of a known length ({reason}); give a file that ffmpeg can play")
    hours, minutes, seconds, fraction = duration.groups()
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return MediaInfo(whole * 10**6 + int(fraction.ljust(6, "0")[:6]), codecs["Video"], codecs["Audio"])


def segments(
    path: Path, *, seconds: int, folder: Path, ffmpeg: str | None = None
) -> Generator[tuple[int, Path], None, None]:
    """Cut `path` into MPEG-TS files in `folder`; yields (duration in us, file) as soon as each is whole.

    ffmpeg names a segment just before it closes its file, so a segment is whole when the next one is named.
    """
    program = ffmpeg or find_ffmpeg()
    info = probe(path, ffmpeg=program)
    command = [program, "-v", "error", "-nostdin", "-i", str(path), "-map", "0:V:0?", "-map", "0:a:0?"]
    if info.video and info.video not in TS_VIDEO:
        command += ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
        command += ["-force_key_frames", f"expr:gte(t,n_forced*{seconds})"]
    else:
        command += ["-c:v", "copy"]
    command += ["-c:a", "copy" if info.audio in TS_AUDIO else "aac"]
    # One muxer for all segments, so that continuity counters go on and a strict player sees one unbroken stream.
    command += ["-f", "segment", "-segment_time", str(seconds), "-segment_format", "mpegts"]
    command += ["-individual_header_trailer", "0", "-segment_format_options", "mpegts_flags=+resend_headers"]
    command += ["-segment_list", "pipe:1", "-segment_list_type", "csv", str(folder / "%06d.ts")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        complaints: list[str] = []
        listener = threading.Thread(target=complaints.extend, args=(running.stderr,), name="ffmpeg-stderr")
        listener.start()
        try:
            before: tuple[int, Path] | None = None
            for line in running.stdout:
                if before is not None:
                    yield before
                name, start, end = line.rstrip("\n").rsplit(",", 2)
                before = _micros(end) - _micros(start), folder / name
        except GeneratorExit:
            running.kill()
            raise
        finally:
            listener.join()
    if running.returncode != 0:
        reason = (complaints or ["no output"])[-1].strip()
        raise BadInput(f"ffmpeg could not cut {path} ({reason}); check that it plays")
    if before is not None:
        yield before


def put_video(
    client: UploadStarter,
    path: Path,
    *,
    name: str | None = None,
    copies: int | None = None,
    seconds: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    started: Callable[[bytes], None] | None = None,
) -> PutResult:
    """Segment and store a video. `seconds` overrides the segment length; `started` gets the upload id, under which the
    video can be played from the first segment on; `progress` gets (microseconds stored, microseconds in all)."""
    ffmpeg = find_ffmpeg()
    if not path.is_file():
        raise BadInput(f"{path} is not a file; give the media file to put")
    named = name or path.name
    require_name(named)
    info = probe(path, ffmpeg=ffmpeg)
    size = path.stat().st_size
    target = seconds or segment_seconds(size, info.duration_us)
    made: list[Segment] = []
    indices: list[int] = []
    with (
        ThreadPoolExecutor(1, thread_name_prefix="video-hash") as hashing,
        tempfile.TemporaryDirectory(prefix="stratos-video-") as scratch,
        client.begin_upload(copies=copies, expected_bytes=size + size // 4 + CONTAINER_BYTES) as upload,
        contextlib.closing(segments(path, seconds=target, folder=Path(scratch), ffmpeg=ffmpeg)) as cut,
    ):
        whole = hashing.submit(_multihash, path)
        if started is not None:
            started(upload.id)
        for duration_us, file in cut:
            if made:
                upload.publish(Playlist(target, tuple(made)).encode())
            length = _add_segment(upload, file, client.slice_bytes, indices)
            if length:
                made.append(Segment(duration_us, length))
            if progress is not None:
                progress(sum(segment.duration_us for segment in made), info.duration_us)
        if not made:
            raise BadInput(f"ffmpeg found nothing to play in {path}; give a file with a video or audio stream")
        note = Playlist(target, tuple(made), ended=True).encode()
        record = UploadFile(name=named, slices=tuple(indices), multihash=whole.result(), video=True, note=note)
        return upload.complete([record])[0]


def _add_segment(upload: Upload, file: Path, slice_bytes: int, indices: list[int]) -> int:
    length = 0
    with file.open("rb") as stream:
        while piece := stream.read(slice_bytes):
            indices.append(upload.add(piece))
            length += len(piece)
    file.unlink()
    return length


def _multihash(path: Path) -> bytes:
    hasher = FileHasher()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            hasher.update(chunk)
    return hasher.multihash()


def _micros(text: str) -> int:
    return round(Fraction(text) * 10**6)
