"""The acts of the demo, each a function from what it needs to a typed result.

Every wait has a condition and a deadline; nothing sleeps for a fixed time. An act that cannot do its work raises one of
the tool's errors with a sentence; whether what it found is good enough is judged at the end, from the document.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from msgspec import Struct

from orchestrator.chain_api import ChainApi
from orchestrator.demo.clip import make_clip
from orchestrator.demo.document import Counted, Prepaid, Proven, VideoPlayed, Withdrawn
from orchestrator.errors import BadInput, EnvironmentFault, VerdictFailed
from orchestrator.rewards.chain import ChainLedger
from orchestrator.rewards.proof import prove_payout
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.lowering import lower_testnet
from stratos.client.blocking import Client
from stratos.client.errors import ClientError
from stratos.client.gateway import Gateway
from stratos.client.observer import Observer
from stratos.client.testnet import Testnet
from stratos.client.video import Playlist, find_ffmpeg, parse_playlist, probe, put_video
from stratos.crypto import bech32
from stratos.wire.metarpc import GetOzone, OzoneSheet
from stratos.wire.txs import Withdraw

T = TypeVar("T")
PAUSE_SECONDS = 0.1
DEMO_MARK = ".demo"
CLIP_SECONDS = 12
EMBER_BYTES = 10_000
PREPAY_WEI = 10**18
SEGMENT_SECONDS = 2
PLAY_SECONDS = 120


class Played(Struct, frozen=True):
    """What a player got: seconds and codecs."""

    seconds: float
    video: str
    audio: str


def begin_folder(folder: TestnetFolder) -> None:
    """Leave room for a new demo, and mark it as one, so that the next may remove it."""
    clear_folder(folder)
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.runs.mkdir(mode=0o700, exist_ok=True)
    (folder.runs / DEMO_MARK).touch()


def clear_folder(folder: TestnetFolder) -> None:
    """Stop and forget an earlier demo, keeping the reports of its runs; raises BadInput for a testnet that is none."""
    if not folder.path.exists():
        return
    if folder.exists and not any(folder.runs.glob("demo-*")) and not (folder.runs / DEMO_MARK).exists():
        raise BadInput(
            f"testnet {folder.name} was not made by the demo, which would begin by removing it; name another inventory "
            f"with -i, or remove it with `stratosctl down --purge -i {folder.need_plan().source}`"
        )
    kept = folder.path.parent / f".{folder.name}-runs"
    if folder.runs.is_dir():
        shutil.rmtree(kept, ignore_errors=True)
        folder.runs.rename(kept)
    lower_testnet(folder, purge=True)
    if kept.is_dir():
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.rename(folder.runs)


def buy_ozone(testnet: Testnet) -> Prepaid:
    """Prepay from the user's wallet, as any user would."""
    try:
        with Client.from_testnet(testnet.folder) as client:
            done = client.prepay(PREPAY_WEI)
    except ClientError as error:
        raise EnvironmentFault(f"ozone could not be bought: {error}") from error
    return Prepaid(done.amount_wei, done.bought_noz, done.height)


def show_video(testnet: Testnet, scratch: Path) -> VideoPlayed:
    """Encode a clip, put it segment by segment, fetch the first segments meanwhile, then play the whole of it."""
    clip = make_clip(scratch / "clip.mp4", seconds=CLIP_SECONDS, key_seconds=SEGMENT_SECONDS)
    early = 0
    try:
        with Client.from_testnet(testnet.folder) as client, Gateway(client) as gateway:
            playlist_url = ""
            cut = 0

            def started(upload_id: bytes) -> None:
                nonlocal playlist_url
                playlist_url = gateway.upload_url(upload_id)

            def progress(_done_us: int, _all_us: int) -> None:
                # Called after each segment is cut and before the upload is whole; all segments but this one are published.
                nonlocal early, cut
                cut += 1
                if cut > 1:
                    early = fetch_published(playlist_url, already=early)

            result = put_video(
                client,
                clip,
                name="demo.mp4",
                seconds=SEGMENT_SECONDS,
                progress=progress,
                started=started,
            )
            playlist = parse_playlist(client.open(result.handle).note)
            played = play(gateway.video_url(result.handle), scratch)
    except ClientError as error:
        raise EnvironmentFault(f"the video could not be stored and played: {error}") from error
    return VideoPlayed(
        handle=result.handle,
        segments=len(playlist.segments),
        seconds=_seconds(playlist),
        played_seconds=played.seconds,
        video_codec=played.video,
        audio_codec=played.audio,
        early_segments=early,
    )


def play(url: str, scratch: Path) -> Played:
    """Let ffmpeg play a playlist from beginning to end; raises EnvironmentFault when it stumbles."""
    copy = scratch / "played.ts"
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", "-xerror", "-i", url, "-c", "copy", str(copy)]
    try:
        finished = subprocess.run(command, capture_output=True, check=False, timeout=PLAY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"playing {url} took more than {PLAY_SECONDS} s; look at the nodes' load") from error
    if finished.returncode != 0:
        reason = (finished.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise EnvironmentFault(f"ffmpeg could not play {url}: {reason}")
    info = probe(copy)
    return Played(info.duration_us / 10**6, info.video, info.audio)


def wait_for(what: str, condition: Callable[[], T | None], *, deadline_seconds: float) -> T:
    """The first answer of `condition` that is not None; raises EnvironmentFault after the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        answer = condition()
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise EnvironmentFault(f"{what} did not happen within {deadline_seconds:.0f} s; read `stratosctl logs`")
        time.sleep(PAUSE_SECONDS)


def wait_epochs(testnet: Testnet, observer: Observer, count: int, *, deadline_seconds: float) -> int:
    """Wait until the chain has included so many reports; how many it has. An epoch in which nothing moved has no report, so
    each one that is still missing when the load has ended gets a small file."""
    lit = -1
    with Client.from_testnet(testnet.folder) as client:

        def settled() -> int | None:
            nonlocal lit
            sheet = observer.ask_meta(GetOzone(), OzoneSheet)
            if sheet.epochs_settled >= count:
                return sheet.epochs_settled
            if sheet.stamp.epoch > lit:
                lit = sheet.stamp.epoch
                try:
                    client.put(os.urandom(EMBER_BYTES), name=f"ember-{lit}")
                except ClientError as error:
                    raise EnvironmentFault(f"no traffic could be made for epoch {lit}: {error}") from error
            return None

        return wait_for(f"settling {count} epochs", settled, deadline_seconds=deadline_seconds)


def withdraw_one(folder: TestnetFolder, api: ChainApi, observer: Observer, *, deadline_seconds: float) -> Withdrawn:
    """Withdraw all that has matured of the resource node that has most."""
    ring, plan = folder.ring(), folder.need_plan()
    owners = {node.name: ring.nodes[node.name].owner_key() for node in plan.nodes if node.role == "resource"}

    def mature(name: str) -> int:
        return int(api.get(f"/stratos/pot/v1/rewards/wallet/{owners[name].text}")["mature"])

    def richest() -> str | None:
        amounts = {name: mature(name) for name in owners}
        best = max(sorted(amounts), key=lambda name: amounts[name], default="")
        return best if best and amounts[best] > 0 else None

    name = wait_for("a reward's maturity", richest, deadline_seconds=deadline_seconds)
    key, amount = owners[name], mature(name)
    done = api.send(key, Withdraw(str(amount), key.address), genesis_hash=observer.genesis_hash)
    if done.code != "ok":
        raise VerdictFailed(f"withdrawing {amount} wei of {name} was refused: {done.error}")
    return Withdrawn(name, key.text, amount, done.hash, done.height)


def prove_one(testnet: Testnet, observer: Observer, chain: ChainLedger) -> Proven:
    """Verify the newest epoch's largest payout with only the genesis file."""
    epoch = max(chain.reports)
    row = max(chain.reports[epoch].message.rows, key=lambda one: (int(one.volume_noz), one.node))
    found = prove_payout(testnet.genesis, observer, node=bech32.encode(bech32.NODE, row.node), epoch=epoch)
    return Proven(chain.name(row.node), epoch, found.receipts, found.mining_wei, found.traffic_wei)


def counted(results: dict[str, Any], kinds: str) -> Counted:
    """One kind of the load generator's results."""
    told = results[kinds]
    return Counted(int(told["ok"]), int(told["failed"]), int(told["bytes"]))


def fetch_published(playlist_url: str, *, already: int) -> int:
    """Fetch the segments that a growing playlist lists beyond those `already` fetched; how many it lists."""
    listed = [line for line in _http(playlist_url).decode().splitlines() if line.endswith(".ts")]
    for name in listed[already:]:
        _http(playlist_url.replace("index.m3u8", name))
    return len(listed)


def _http(url: str) -> bytes:
    try:
        with urlopen(url, timeout=PLAY_SECONDS) as answer:  # noqa: S310 - the gateway's own address on loopback
            return bytes(answer.read())
    except OSError as error:
        raise EnvironmentFault(f"the gateway did not give {url}: {error}; look at the nodes' logs") from error


def _seconds(playlist: Playlist) -> float:
    return sum(segment.duration_us for segment in playlist.segments) / 10**6
