"""Transfers on a real testnet: sizes, failover, repair, damage, unfinished uploads, and books that agree at the end."""

from __future__ import annotations

import base64
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from transfer_net import MIB, Net, digest_of, holders_of, names_of, raised, told
from up_driver import eventually

from orchestrator.testnet.control import kill_nodes, start_nodes
from orchestrator.testnet.folder import TestnetFolder
from stratos.client import BadInput, NotEnoughOzone, NotFound, ObjectToPut, Unreachable, UploadFile
from stratos.client.ledgerfile import ReceiptLine, read_ledger
from stratos.client.proven import file_doubt
from stratos.client.remote import RemoteFile
from stratos.crypto.handle import Handle, parse_handle
from stratos.crypto.keyfile import save_key
from stratos.crypto.keys import WalletKey
from stratos.meta.placement import serving_order
from stratos.wire.metarpc import FileAnswer, GetFile, GetOzone, OzoneSheet


@pytest.fixture(scope="module", params=["tls"])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """Six holders; what must not depend on how slice bytes travel is said once more with `BOTH`."""
    with raised(tmp_path_factory.mktemp("transfer"), transport=request.param) as testnet:
        yield testnet


BOTH = pytest.mark.parametrize("net", ["tls", "plain"], indirect=True)


def _progress(remote: RemoteFile) -> bytes:
    remote.refresh()  # another meta node than the writer's may answer, a block behind
    return remote.progress


@BOTH
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


@BOTH
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


@BOTH
def test_slices_travel_as_the_inventory_says(net: Net, request: pytest.FixtureRequest) -> None:
    """On a plain slice port a holder names its key in the clear at once; on the other kind it talks TLS 1.3."""
    with net.client() as client:
        holder = next(iter(client._core.directory().values()))
    host, _, port = holder.network_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as caller:
        if request.node.callspec.params["net"] == "plain":
            assert holder.public_key in caller.recv(4096)
            return
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        with anybody.wrap_socket(caller) as wrapped:
            assert wrapped.version() == "TLSv1.3"


def test_a_name_that_cannot_be_is_refused_before_anything_moves(net: Net) -> None:
    """No slice of a file with an impossible name reaches a holder."""
    data = os.urandom(100_000)
    with net.client() as client:
        with pytest.raises(BadInput, match="name"):
            client.put(data, name="a/b")
        with pytest.raises(BadInput, match="name"):
            client.put_many([ObjectToPut(name="good", data=data), ObjectToPut(name="bad\n", data=data)])
    assert all(path.name != digest_of(data).hex() for path in net.slice_files())


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
        digest = digest_of(data).hex()
        with client.begin_upload() as upload:
            upload.add(data)
            eventually(lambda: sum(path.name == digest for path in net.slice_files()) == 4)
    with net.client() as client:
        after = client.balance()
        assert after.available_noz + after.reserved_noz == before.available_noz + before.reserved_noz
    eventually(lambda: all(path.name != digest for path in net.slice_files()))


def test_copies_that_are_missing_at_the_end_are_made_then(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the index does not count as many copies as the client does, the missing ones are placed and sent once more."""
    monkeypatch.setattr("stratos.client.upload.PLACE_ROUNDS", 1)  # the client takes three copies for good
    testnet = TestnetFolder(net.folder)
    kill_nodes(testnet, ["r1"])
    try:
        with net.client() as client:
            for number in range(5):
                data = os.urandom(MIB + 300_000)
                stored = client.put(data, name=f"late{number}.bin")
                assert (stored.copies, stored.degraded) == (4, False)
                assert client.read(stored.handle) == data
    finally:
        start_nodes(testnet, ["r1"])
    eventually(lambda: told(net, "r1").status == "active")


def test_a_meta_node_cannot_pass_other_bytes_off_as_a_file(net: Net) -> None:
    """An answer of the index counts only with the proof of the very file asked for, and with that file's slices."""
    with net.client() as client:
        one, two = (parse_handle(client.put(os.urandom(size), name=f"{size}").handle) for size in (2 * MIB, 300_000))
        core = client._core

        def told(handle: Handle) -> FileAnswer:
            return core.find(GetFile(handle.wallet, handle.cid), FileAnswer)

        def doubt(answer: FileAnswer) -> str:
            return file_doubt(core.trust, one.wallet, one.cid, answer)

        honest, other = told(one), told(two)
        assert doubt(honest) == "" and honest.stored is not None
        replace = msgspec.structs.replace
        lie = replace(honest.slices[0], spec=replace(honest.slices[0].spec, length=MIB - 1))
        for forged in (
            other,
            replace(honest, slices=other.slices),
            replace(honest, slices=(lie, *honest.slices[1:])),
            replace(honest, stored=replace(honest.stored, digests=honest.stored.digests[::-1])),
            replace(honest, evidence=None),
            replace(honest, proof=other.proof),
        ):
            assert doubt(forged)


def test_a_doubted_meta_node_is_passed_over(net: Net) -> None:
    """When what one node tells is not believed, the next one is asked, and only when all are doubted the call fails."""
    with net.client() as client:
        handle = parse_handle(client.put(b"believe me", name="doubt.txt").handle)
        request = GetFile(handle.wallet, handle.cid)
        doubts = iter(["it lies", "it lies"])
        answer = client._core.ask(request, FileAnswer, doubt=lambda _: next(doubts, ""))
        assert answer.stored is not None and answer.stored.record.name == "doubt.txt"
        with pytest.raises(Unreachable, match="is not believed: it lies"):
            client._core.ask(request, FileAnswer, doubt=lambda _: "it lies", deadline_seconds=3.0)


def test_a_dead_meta_node_is_not_missed(net: Net) -> None:
    """With one meta node stopped, puts and gets go on and every holder goes on reporting; continued, it catches up."""
    data = os.urandom(2 * MIB)
    pid = net.pid("m2")
    os.kill(pid, signal.SIGSTOP)
    try:
        stopped_ms = time.time_ns() // 1_000_000
        with net.client() as client:
            assert client.read(client.put(data, name="three.bin").handle) == data
            eventually(lambda: all(each.last_status_ms > stopped_ms for each in client._core.directory().values()))
            missed = net.http("m1", "/status")["height"]
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: net.http("m2", "/status")["height"] >= missed)


@pytest.mark.parametrize(("net", "killed"), [("tls", False), ("plain", True)], indirect=["net"])
def test_a_dead_holder_is_replaced(net: Net, killed: bool) -> None:
    """With a holder gone (silent, or killed), its files are read from others, new ones get four copies elsewhere, and its slices are copied
    again without anybody asking; when it comes back its surplus copies are dropped."""
    data = os.urandom(3 * MIB)
    with net.client() as client:
        handle = client.put(data, name="dead.bin").handle
        remote = client.open(handle)
        placed = remote.slices[0]
        victim = serving_order(client.wallet.address, placed.spec.digest, client._core.epoch(), placed.holders)[0]
        name = names_of(client)[victim]
        pid = net.pid(name)
        if killed:
            kill_nodes(TestnetFolder(net.folder), [name])
        else:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert client.read(handle) == data
            again = client.put(os.urandom(3 * MIB), name="after.bin")
            assert (again.copies, again.degraded) == (4, False)
            eventually(lambda: all(len([h for h in holders if h != victim]) >= 4 for holders in holders_of(remote)))
            assert all(victim not in holders for holders in holders_of(client.open(again.handle)))
        finally:
            if killed:
                start_nodes(TestnetFolder(net.folder), [name])
            else:
                os.kill(pid, signal.SIGCONT)
        digest = placed.spec.digest.hex()
        gone = net.folder / "nodes" / name / "data" / "slices" / "slices" / digest[:1] / digest
        eventually(lambda: not gone.exists())
        assert client.read(handle) == data


def test_a_flipped_byte_on_a_disk_never_reaches_a_reader(net: Net) -> None:
    """When a holder's copy is damaged, the reader gets the right bytes from another, and the copy is set aside."""
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

        def read_well_and_found() -> bool:
            assert client.read(handle) == data
            return bool(list((home / "quarantine").glob(f"{digest}*")))

        # Who is asked first changes with the epoch, and it may change now: then the damage is met in a later one.
        eventually(read_well_and_found)


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
    """A prepay is in a block and the ozone it bought, no more and no less, arrives in the wallet's balance."""
    buyer = WalletKey.generate()
    save_key(net.folder / "wallets" / "buyer.json", buyer)
    net.tool.json("tx", "send", buyer.text, "5")
    first = net.tool.json("prepay", "1wei", "--wallet", "buyer")
    second = net.tool.json("prepay", "2", "--wallet", "buyer")
    assert int(first["available_noz"]) == int(first["bought_noz"])
    assert int(second["available_noz"]) == int(first["bought_noz"]) + int(second["bought_noz"])
    assert int(second["bought_noz"]) > 0


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
        eventually(lambda: net.unsubmitted(client) == 0)
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
