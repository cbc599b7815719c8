"""Video on a real testnet: put, played while it is put, played whole, probed; and any file through the gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import COMMAND_SECONDS, Tool

from orchestrator.demo.clip import make_clip
from orchestrator.demo.steps import fetch_published
from stratos.client import Client
from stratos.client.gateway import Gateway
from stratos.client.video import find_ffmpeg, probe, put_video
from stratos.crypto.cid import FileHasher, cid_text, file_cid
from stratos.crypto.handle import parse_handle

SECONDS = 8


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    tool = Tool(tmp_path_factory.mktemp("video"))
    assert tool.json("up")["started"] == 4
    try:
        yield tool
    finally:
        assert tool.run("down", "--purge").returncode == 0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=SECONDS, width=320, height=180)


@pytest.fixture(scope="module")
def handle(tool: Tool, clip: Path) -> str:
    """The clip, stored by the command line."""
    done = subprocess.run(
        [*tool.command("put"), str(clip), "--video", "--segment-seconds", "2", "--json"],
        env=tool.environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=True,
    )
    assert "/upload/" in done.stderr
    return str(json.loads(done.stdout)["handle"])


@pytest.fixture(scope="module")
def gateway_url(tool: Tool, handle: str) -> Iterator[str]:
    """A gateway process, as a user runs it."""
    command = [*tool.command("gateway"), handle, "--port", "0", "--json"]
    with subprocess.Popen(command, env=tool.environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield json.loads(running.stdout.readline())["url"]
        finally:
            running.terminate()


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.status, answer.read()


def address(handle: str) -> str:
    return "/".join(handle.removeprefix("sdm://").split("/")[:2])


def test_the_handle_carries_the_video_name_of_the_original(handle: str, clip: Path) -> None:
    """`cid --video` of the file that was put is the name it is stored under."""
    hasher = FileHasher()
    hasher.update(clip.read_bytes())
    assert cid_text(parse_handle(handle).cid) == cid_text(file_cid(hasher.multihash(), video=True))


def test_ffprobe_reads_duration_and_codecs_through_the_gateway(handle: str, gateway_url: str, tmp_path: Path) -> None:
    """What comes out of the network is the clip: its length, H.264 and AAC."""
    url = f"{gateway_url}/{address(handle)}/index.m3u8"
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:  # the wheel carries ffmpeg alone, which reads the same facts
        played = tmp_path / "played.ts"
        subprocess.run(
            [find_ffmpeg(), "-v", "error", "-i", url, "-c", "copy", str(played)], check=True, timeout=COMMAND_SECONDS
        )
        info = probe(played)
        found = (info.duration_us / 10**6, [info.video, info.audio])
    else:
        command = [ffprobe, "-v", "error", "-show_entries", "format=duration:stream=codec_name", "-of", "json", url]
        told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=COMMAND_SECONDS).stdout)
        found = (float(told["format"]["duration"]), [stream["codec_name"] for stream in told["streams"]])
    assert abs(found[0] - SECONDS) < 0.5 and found[1] == ["h264", "aac"]


def test_a_strict_player_plays_it_to_the_end(handle: str, gateway_url: str) -> None:
    """ffmpeg decodes every segment and stops at the first error."""
    url = f"{gateway_url}/{address(handle)}/index.m3u8"
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-xerror", "-i", url, "-f", "null", "-"]
    played = subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS)
    assert (played.returncode, played.stderr) == (0, b"")


def test_get_gives_one_playable_file(tool: Tool, handle: str, tmp_path: Path) -> None:
    """A stored video downloads as the stream of its segments."""
    target = tmp_path / "film.ts"
    done = subprocess.run(
        [*tool.command("get"), handle, "-o", str(target)],
        env=tool.environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    info = probe(target)
    assert info.video == "h264" and abs(info.duration_us / 10**6 - SECONDS) < 0.5


def test_playback_starts_before_the_upload_is_whole(tool: Tool, clip: Path) -> None:
    """Segments are served while later ones are still being put, and the finished playlist has all of them."""
    seen: list[int] = []
    urls: list[str] = []
    with Client.from_testnet(tool.root / "net") as client, Gateway(client) as gateway:

        def progress(_done_us: int, _all_us: int) -> None:
            if len(urls) == 1:
                urls.append("first segment is not published yet")
            else:
                seen.append(fetch_published(urls[0], already=seen[-1] if seen else 0))

        result = put_video(
            client,
            clip,
            seconds=2,
            progress=progress,
            started=lambda identity: urls.append(gateway.upload_url(identity)),
        )
        playlist = fetch(gateway.video_url(result.handle))[1].decode()
    assert seen and seen[0] >= 1 and seen == sorted(seen)
    assert playlist.count(".ts") == SECONDS // 2 and "#EXT-X-ENDLIST" in playlist


def test_plain_files_are_served_with_ranges(tool: Tool, gateway_url: str) -> None:
    """/file/<handle> gives exactly the bytes asked for."""
    data = os.urandom(700_001)
    with Client.from_testnet(tool.root / "net") as client:
        stored = client.put(data, name="data.bin").handle
    url = f"{gateway_url}/file/{address(stored)}"
    assert fetch(url) == (200, data)
    assert fetch(url, Range="bytes=65530-400000") == (206, data[65530:400001])
    assert fetch(url, Range="bytes=-5") == (206, data[-5:])
