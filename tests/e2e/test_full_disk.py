"""A holder whose disk is really full: others take its work, nobody pays for nothing, and it goes on when there is space.

One node's data folder lies on a tmpfs of a few MiB, which needs the right to mount. What a full disk does to the books
alone is tested everywhere, by limiting the size of files (tests/unit/stratos/resource/test_no_space.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from transfer_net import MIB, Net, digest_of, names_of, raised, told
from up_driver import eventually

from orchestrator.testnet.control import kill_nodes, start_nodes
from orchestrator.testnet.folder import TestnetFolder
from stratos.client import Client, ObjectToPut
from stratos.meta.context import copy_cost
from stratos.resource.store import FREE_MARGIN_BYTES
from stratos.wire.metarpc import GetOzone, OzoneSheet
from stratos.wire.receipts import DOWNLOAD

SMALL_DISK_BYTES = FREE_MARGIN_BYTES + 12 * MIB
FULL = "r1"


class SmallDisk:
    """A file system of a few MiB under one node's data folder."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, leaving: int = 0) -> None:
        """Take every byte that is left, or all but some."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while (free := self._free()) > leaving:
                ballast.write(bytes(min(MIB, free - leaving)))
            if not leaving:
                with pytest.raises(OSError, match="No space left"):
                    ballast.write(bytes(4096))

    def _free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def empty(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """Five holders for four copies, so that one of them is not needed."""
    with raised(tmp_path_factory.mktemp("full"), holders=5) as testnet:
        yield testnet


def refusal_to_mount(folder: Path) -> str:
    """Mount a small file system on a folder; why that is not possible here, "" when it is done."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "stratos-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        why = str(error)
    else:
        why = done.stderr.strip() if done.returncode else ""
    return why and f"no small file system can be mounted here, so no disk is really full: {why}"


@pytest.fixture(scope="module")
def small_disk(net: Net) -> Iterator[SmallDisk]:
    """The first holder's data folder moved to a small file system; skips where mounting is not permitted."""
    data = net.folder / "nodes" / FULL / "data"
    testnet = TestnetFolder(net.folder)
    kill_nodes(testnet, [FULL])
    moved = data.with_name("data.before")
    data.rename(moved)
    data.mkdir()
    if reason := refusal_to_mount(data):
        print(reason, file=sys.__stderr__)
        pytest.skip(reason)
    try:
        shutil.copytree(moved, data, dirs_exist_ok=True)
        start_nodes(testnet, [FULL])
        yield SmallDisk(net, data)
    finally:
        kill_nodes(testnet, [FULL])
        subprocess.run(["umount", str(data)], check=True)


@pytest.fixture
def disk(small_disk: SmallDisk) -> Iterator[SmallDisk]:
    """The small disk with space on it and its node active, before and after; no node may have died meanwhile."""
    net = small_disk.net
    eventually(lambda: told(net, FULL).disk_free > 0 and told(net, FULL).status == "active")
    yield small_disk
    small_disk.empty()


def restart(net: Net, name: str) -> None:
    """Kill a node and wait until it answers and reports again."""
    ready = net.folder / "nodes" / name / "ready.json"
    before = ready.read_text()
    kill_nodes(TestnetFolder(net.folder), [name])
    start_nodes(TestnetFolder(net.folder), [name])
    eventually(lambda: ready.exists() and ready.read_text() != before)
    eventually(lambda: net.http(name, "/status")["reporting"])


def processes(net: Net) -> dict[str, tuple[int, str, int]]:
    return {node["name"]: (node["pid"], node["state"], node["restarts"]) for node in net.tool.json("status")["nodes"]}


def owned(client: Client) -> int:
    balance = client.balance()
    return balance.available_noz + balance.reserved_noz


def earned(net: Net) -> int:
    """noz of all download receipts the nodes have, which must all have been handed in first."""
    names = [f"r{number}" for number in range(1, 6)]
    eventually(lambda: sum(net.http(name, "/status")["unsubmitted_noz"] for name in names) == 0)
    lines = [line for name in names for line in net.http(name, "/receipts")["lines"]]
    return sum(line["ordered_noz"] for line in lines if line["kind"] == DOWNLOAD)


def really_held(net: Net, client: Client, handle: str) -> bool:
    """Whether every holder that counts for a file has all bytes of its slices on its disk."""
    names = names_of(client)
    files = {(path.parents[4].name, path.name): path.stat().st_size for path in net.slice_files()}
    return all(
        files.get((names[holder], placed.spec.digest.hex()), 0) > placed.spec.length
        for placed in client.open(handle).slices
        for holder in placed.holders
    )


def stored_at(net: Net, data: bytes) -> bool:
    return any(path.name == digest_of(data).hex() and path.parents[4].name == FULL for path in net.slice_files())


@pytest.mark.parametrize("left", [0, 8 * MIB], ids=["nothing left", "only the margin left"])
def test_uploads_go_on_with_other_holders(disk: SmallDisk, left: int) -> None:
    """From the moment a disk is full, or has only what a node leaves free for its books, files get all their copies elsewhere, are read back, and cost what was stored."""
    net = disk.net
    before = processes(net)
    with net.client() as client:
        earned(net)
        disk.fill(leaving=left)
        params = client._core.genesis.meta
        files = [os.urandom(2 * MIB + 1_000 * number) for number in range(6)]
        handles = []
        for number, data in enumerate(files):
            owned_before = owned(client)
            put = client.put(data, name=f"full{number}.bin")
            stored = sum(4 * copy_cost(params, size) for size in (MIB, MIB, 1_000 * number) if size)
            assert (put.copies, put.degraded, put.charged_noz) == (4, False, stored)
            assert owned_before - owned(client) == stored
            assert really_held(net, client, put.handle)
            handles.append(put.handle)
        assert [client.read(handle) for handle in handles] == files
        eventually(lambda: told(net, FULL).disk_free == 0)
    assert processes(net) == before


def test_a_full_holder_does_not_stand_in_the_way_of_readers(disk: SmallDisk) -> None:
    """What a full holder cannot book it does not serve: readers get it elsewhere, and nobody earns what did not arrive."""
    net = disk.net
    before = processes(net)
    objects = [ObjectToPut(name=f"o{number}", data=os.urandom(1_000 + number)) for number in range(40)]
    with net.client() as client:
        stored = client.put_many(objects)
        earned_before = earned(net)
        owned_before = owned(client)
    disk.fill()
    with net.client() as client:
        for _ in range(3):
            assert client.get_many([one.handle for one in stored]) == [one.data for one in objects]
    disk.empty()
    size = 3 * sum(len(one.data) for one in objects)
    assert earned(net) - earned_before == size
    with net.client() as client:
        # Passing over a holder that counts as live costs a first piece by rule, here the whole object, and never more.
        assert size <= owned_before - owned(client) <= 2 * size
        sheet = client._core.ask(GetOzone(), OzoneSheet)
        assert sheet.sold == sheet.balances + sheet.reserved + sheet.repair_reserve + sheet.unsettled + sheet.reported
    assert processes(net) == before


def test_without_enough_other_holders_an_upload_is_refused(disk: SmallDisk, tmp_path: Path) -> None:
    """With the full disk among the last three holders an upload ends in one sentence and costs nothing."""
    net = disk.net
    testnet = TestnetFolder(net.folder)
    source = tmp_path / "in.bin"
    source.write_bytes(os.urandom(MIB))
    disk.fill()
    kill_nodes(testnet, ["r4", "r5"])
    try:
        eventually(lambda: {told(net, name).status for name in ("r4", "r5")} == {"unavailable"})
        eventually(lambda: told(net, FULL).disk_free == 0)
        with net.client() as client:
            owned_before = owned(client)
            refused = net.tool.run("put", str(source))
            assert (refused.returncode, refused.stdout) in ((2, ""), (3, ""))
            assert refused.stderr.count("\n") == 1 and "free disk" in refused.stderr
            eventually(lambda: owned(client) == owned_before)
    finally:
        start_nodes(testnet, ["r4", "r5"])
    eventually(lambda: {told(net, name).status for name in ("r4", "r5")} == {"active"})


def test_a_node_starts_on_a_full_disk_and_takes_slices_when_there_is_space(disk: SmallDisk) -> None:
    """Killed while its disk is full it comes back with its books, and with space freed it stores and earns again."""
    net = disk.net
    with net.client() as client:
        objects = [ObjectToPut(name=f"p{number}", data=os.urandom(500 + number)) for number in range(60)]
        stored = client.put_many(objects)
        disk.fill()
        client.get_many([one.handle for one in stored])
        restart(net, FULL)
        disk.empty()
        eventually(lambda: told(net, FULL).disk_free > 0 and told(net, FULL).status == "active")

        def takes_a_slice() -> bool:
            data = os.urandom(100_000)
            client.put(data, name="again.bin")
            return stored_at(net, data)

        eventually(takes_a_slice)
        client.get_many([one.handle for one in stored])
        before = net.http(FULL, "/receipts")["lines"]
        restart(net, FULL)
        after = net.http(FULL, "/receipts")["lines"]
    assert len(before) <= len(after)
    assert {(line["kind"], line["task"], line["total_noz"]) for line in before} <= {
        (line["kind"], line["task"], line["total_noz"]) for line in after
    }
