"""Transfers on a real testnet: sizes, failover, repair, damage, unfinished uploads, and books that agree at the end."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import Tool, eventually

from stratos.client import Client, NotEnoughOzone, NotFound, ObjectToPut, UploadFile
from stratos.client.ledgerfile import ReceiptLine, read_ledger
from stratos.client.remote import RemoteFile
from stratos.crypto.keyfile import save_key
from stratos.crypto.keys import WalletKey
from stratos.meta.placement import serving_order
from stratos.wire.metarpc import GetOzone, OzoneSheet

NET = """
all:
  vars:
    ansible_connection: local
    stratos_copies: 4
    stratos_block_seconds: 0.5
    stratos_meta_block_seconds: 0.5
    stratos_epoch_seconds: 20
    stratos_day_seconds: 60
    stratos_status_seconds: 1
    stratos_suspend_offline_seconds: 600
    stratos_slice_bytes: 1 MiB
  children:
    validators: {hosts: {v1: }}
    meta: {hosts: {"m[1:4]": }}
    resource: {hosts: {"r[1:6]": }}
"""
MIB = 1024 * 1024


class Net:
    """The running testnet of this file's tests."""

    def __init__(self, tool: Tool, folder: Path) -> None:
        self.tool = tool
        self.folder = folder

    def client(self, wallet: str = "user", deadline_seconds: float = 60.0) -> Client:
        return Client.from_testnet(self.folder, wallet=wallet, deadline_seconds=deadline_seconds)

    def ready(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "nodes" / name / "ready.json").read_text())
        return document

    def pid(self, name: str) -> int:
        return int(self.ready(name)["pid"])

    def http(self, name: str, path: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.ready(name)['ports']['http']}{path}", timeout=10
        ) as answer:
            return json.load(answer)

    def unsubmitted(self, client: Client) -> int:
        """noz that holders have served and not handed in yet."""
        return sum(self.http(name, "/status")["unsubmitted_noz"] for name in names_of(client).values())

    def slice_files(self) -> list[Path]:
        return [path for path in self.folder.glob("nodes/r*/data/slices/slices/*/*") if path.is_file()]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """One validator, four meta nodes, six holders, slices of 1 MiB."""
    folder = tmp_path_factory.mktemp("transfer")
    tool = Tool(folder)
    tool.write(NET)
    report = tool.json("up")
    yield Net(tool, Path(report["folder"]))
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


def names_of(client: Client) -> dict[bytes, str]:
    return {address: info.name for address, info in client._core.directory().items()}


def holders_of(remote: RemoteFile) -> list[tuple[bytes, ...]]:
    remote.refresh()
    return [placed.holders for placed in remote.slices]


def _progress(remote: RemoteFile) -> bytes:
    remote.refresh()  # another meta node than the writer's may answer, a block behind
    return remote.progress


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, MIB, 5 * MIB + 3])
def test_a_file_of_any_size_comes_back(net: Net, tmp_path: Path, size: int) -> None:
    """Put and get through the command line give the same bytes, four copies, and charge copies and the repair reserve."""
    source, target = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(os.urandom(size))
    put = net.tool.json("put", str(source))
    assert (put["bytes"], put["copies"], put["degraded"]) == (size, 4, False)
    assert put["charged_noz"] == sum(4 * (n + n * 500 // 10_000) for n in _slices(size))
    got = net.tool.json("get", put["handle"], "-o", str(target))
    assert (got["bytes"], got["charged_noz"]) == (size, size)
    assert target.read_bytes() == source.read_bytes()
    assert list(tmp_path.glob(".*.part")) == []


def _slices(size: int) -> list[int]:
    return [min(MIB, size - start) for start in range(0, size, MIB)]


def test_ranges_streams_and_batches_are_exact(net: Net) -> None:
    """Any range, a stream from the middle, and many small objects at once are byte for byte right."""
    data = os.urandom(3 * MIB + 500)
    with net.client() as client:
        handle = client.put(data, name="ranges.bin").handle
        for offset, length in (
            (0, 1),
            (65_535, 2),
            (MIB - 1, 2),
            (3 * MIB, 10_000),
            (len(data) - 1, 1),
            (len(data), 5),
        ):
            assert client.read_range(handle, offset, length) == data[offset : offset + length]
        assert b"".join(client.stream(handle, offset=MIB // 2)) == data[MIB // 2 :]
        objects = [ObjectToPut(name=f"o{number}", data=os.urandom(number * 37)) for number in range(60)]
        stored = client.put_many(objects)
        assert client.get_many([each.handle for each in stored]) == [each.data for each in objects]
        assert {each.copies for each in stored} == {4}


def test_a_refused_stream_leaves_the_output_alone(net: Net, tmp_path: Path) -> None:
    """A file that is there is not emptied for a range that the stored file does not have."""
    kept = tmp_path / "kept"
    kept.write_text("before")
    with net.client() as client:
        handle = client.put(b"x" * 1000, name="thousand").handle
    refused = net.tool.run("stream", handle, "--offset", "1001", "-o", str(kept))
    assert (refused.returncode, kept.read_text()) == (2, "before")
    assert "1000 bytes" in refused.stderr


def test_an_unfinished_upload_is_read_while_it_grows(net: Net) -> None:
    """Slices and the progress note of an upload are there for another reader as soon as they are published."""
    parts = [os.urandom(200_000) for _ in range(3)]
    with net.client() as writer, net.client() as reader, writer.begin_upload() as upload:
        upload.add(parts[0])
        upload.publish(b"one")
        remote = reader.open_upload(upload.id)
        eventually(lambda: _progress(remote) == b"one")
        assert (remote.complete, remote.progress, remote.read(0, 10**6)) == (False, b"one", parts[0])
        upload.add(parts[1])
        upload.add(parts[2])
        upload.publish(b"three")
        eventually(lambda: _progress(remote) == b"three")
        assert remote.read_slice(2) == parts[2]
        result = upload.complete([UploadFile(name="grown.bin", slices=(0, 1, 2))])[0]
        assert reader.read(result.handle) == b"".join(parts)


def test_an_aborted_upload_costs_nothing(net: Net) -> None:
    """What an upload reserved is free again after it was given up, and its slices are dropped."""
    with net.client() as client:
        eventually(lambda: net.unsubmitted(client) == 0)
        before = client.balance()
        data = os.urandom(300_000)
        digest = blake3(data).hexdigest()
        with client.begin_upload() as upload:
            upload.add(data)
            eventually(lambda: sum(path.name == digest for path in net.slice_files()) == 4)
    with net.client() as client:
        after = client.balance()
        assert after.available_noz + after.reserved_noz == before.available_noz + before.reserved_noz
    eventually(lambda: all(path.name != digest for path in net.slice_files()))


def test_a_dead_meta_node_is_not_missed(net: Net) -> None:
    """With one meta node stopped, puts and gets go on; continued, it answers again."""
    data = os.urandom(2 * MIB)
    pid = net.pid("m2")
    os.kill(pid, signal.SIGSTOP)
    try:
        with net.client() as client:
            assert client.read(client.put(data, name="three.bin").handle) == data
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_dead_holder_is_replaced(net: Net) -> None:
    """With a holder gone, its files are read from others, new ones get four copies elsewhere, and its slices are copied
    again without anybody asking; when it comes back its surplus copies are dropped."""
    data = os.urandom(3 * MIB)
    with net.client() as client:
        handle = client.put(data, name="dead.bin").handle
        remote = client.open(handle)
        placed = remote.slices[0]
        victim = serving_order(client.wallet.address, placed.spec.digest, client._core.epoch(), placed.holders)[0]
        name = names_of(client)[victim]
        pid = net.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert client.read(handle) == data
            again = client.put(os.urandom(3 * MIB), name="after.bin")
            assert (again.copies, again.degraded) == (4, False)
            eventually(
                lambda: all(len([h for h in holders if h != victim]) >= 4 for holders in holders_of(remote)), seconds=60
            )
            assert all(victim not in holders for holders in holders_of(client.open(again.handle)))
        finally:
            os.kill(pid, signal.SIGCONT)
        digest = placed.spec.digest.hex()
        gone = net.folder / "nodes" / name / "data" / "slices" / "slices" / digest[:1] / digest
        eventually(lambda: not gone.exists(), seconds=60)
        assert client.read(handle) == data


def test_a_flipped_byte_on_a_disk_never_reaches_a_reader(net: Net) -> None:
    """When the first holder's copy is damaged, the reader gets the right bytes from another, and the copy is set aside."""
    data = os.urandom(MIB)
    with net.client() as client:
        handle = client.put(data, name="flip.bin").handle
        placed = client.open(handle).slices[0]
        names = names_of(client)
        first = serving_order(client.wallet.address, placed.spec.digest, client._core.epoch(), placed.holders)[0]
        digest = placed.spec.digest.hex()
        home = net.folder / "nodes" / names[first] / "data" / "slices"
        path = home / "slices" / digest[:1] / digest
        content = bytearray(path.read_bytes())
        content[MIB - 5] ^= 1
        path.write_bytes(content)
        assert client.read(handle) == data
        eventually(lambda: list((home / "quarantine").glob(f"{digest}*")))


def test_a_removed_file_is_gone_and_its_slices_dropped(net: Net) -> None:
    """After `rm` the handle is unknown (exit code 2) and the holders have deleted what nobody refers to."""
    with net.client() as client:
        handle = client.put(os.urandom(MIB), name="short.bin").handle
        digest = client.open(handle).slices[0].spec.digest.hex()
        client.rm(handle)
        with pytest.raises(NotFound, match="no file"):
            client.read(handle)
        with pytest.raises(NotFound, match=f"no file {handle}"):
            client.rm(handle)
    eventually(lambda: all(path.name != digest for path in net.slice_files()))
    refused = net.tool.run("get", handle, "-o", "/dev/null")
    assert (refused.returncode, "no file" in refused.stderr) == (2, True)


def test_without_ozone_nothing_is_moved(net: Net) -> None:
    """A wallet without ozone is told so in one sentence with the fix, with exit code 2, and nothing is charged."""
    save_key(net.folder / "wallets" / "poor.json", WalletKey.generate())
    with net.client("poor") as client, pytest.raises(NotEnoughOzone, match="prepay"):
        client.put(b"x" * 1000, name="x")
    refused = net.tool.run("put", str(net.tool.inventory), "--wallet", "poor")
    assert refused.returncode == 2
    assert "prepay" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_prepay_buys_ozone(net: Net) -> None:
    """A prepay is in a block and the ozone it bought arrives in the wallet's balance."""
    before = net.tool.json("prepay", "1wei")
    bought = net.tool.json("prepay", "2")
    assert int(bought["available_noz"]) == int(before["available_noz"]) + int(bought["bought_noz"])
    assert int(bought["bought_noz"]) > 0


def test_strangers_may_read_but_not_remove(net: Net) -> None:
    """Another wallet pays for its own download of a handle, and cannot delete the file."""
    data = os.urandom(1000)
    with net.client() as owner, net.client("probe") as stranger:
        handle = owner.put(data, name="shared.bin").handle
        assert stranger.read(handle) == data
        with pytest.raises(Exception, match="another wallet"):
            stranger.rm(handle)


def test_the_books_agree(net: Net) -> None:
    """Every total a node's ledger shows was signed by a client and is handed in soon, and ozone is conserved."""
    with net.client() as client:
        data = os.urandom(70_000)
        assert client.read(client.put(data, name="booked.bin").handle) == data
        addresses = {name: address.hex() for address, name in names_of(client).items()}
        sheet = client._core.ask(GetOzone(), OzoneSheet)
        assert sheet.sold == sheet.balances + sheet.reserved + sheet.repair_reserve + sheet.unsettled + sheet.reported
        eventually(lambda: net.unsubmitted(client) == 0, seconds=60)
    signed = {
        (line.kind, line.task, line.earner, line.total_noz)
        for line in read_ledger(net.folder / "ledger")
        if isinstance(line, ReceiptLine)
    }
    downloads = [
        (2, base64.b64decode(line["task"]).hex(), address, line["total_noz"])
        for name, address in addresses.items()
        for line in net.http(name, "/receipts")["lines"]
        if line["kind"] == 2
    ]
    assert downloads
    assert set(downloads) <= signed
