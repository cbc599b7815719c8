"""PUT and GET of 64 MiB through a whole testnet, against the physical limits of the same run.

Six holders, four meta nodes, one validator, every link as configured (TLS 1.3 unless --transport plain), every copy durable
before the PUT is answered, every byte of the GET verified. Fresh random data each time, compared at the end. Beside each
pair the limits are taken: loopback TCP, and the time to write and sync the same copies with nothing else. Then
small objects (10 KiB) one by one and in batches, and the first byte of a 1 MiB range.

    python benchmarks/put_get.py [--json] [--runs 5] [--copies 4] [--transport tls|plain] [--mib 64]
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from storage_net import (
    MIB,
    VOID_ABOVE,
    calibration,
    drift,
    loopback_mb_per_second,
    running_testnet,
    show,
    spread,
    write_floor_mb_per_second,
)

from stratos.client import Client, ObjectToPut

SMALL = 10 * 1024
SETTLE_SECONDS = 30.0


def main() -> None:
    """Measure and print."""
    options = _options()
    with running_testnet(copies=options.copies, transport=options.transport, folder=options.folder) as folder:
        document = measure(folder, options)
    show(document, as_json=options.json)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    size = options.mib * MIB
    puts, gets, floors, links, void = [], [], [], [], 0
    source, target = folder / "in.bin", folder / "out.bin"
    with Client.from_testnet(folder) as client:
        touch(client, folder, options)
        for _ in range(options.runs):
            before = calibration(folder)
            links.append(loopback_mb_per_second())
            floors.append(write_floor_mb_per_second(folder, copies=options.copies, size=size))
            data = os.urandom(size)
            source.write_bytes(data)
            stored = timed(puts, size, client.put, source)
            timed(gets, size, client.get, stored.handle, target)
            assert target.read_bytes() == data, "the download differs from what was stored"
            assert stored.copies == options.copies
            client.rm(stored.handle)
            void += drift(before, calibration(folder)) > VOID_ABOVE
        small = small_objects(client)
    return {
        "mib": options.mib,
        "copies": options.copies,
        "transport": options.transport,
        "put_mb_per_second": spread(puts),
        "get_mb_per_second": spread(gets),
        "loopback_mb_per_second": spread(links),
        "write_floor_mb_per_second": spread(floors),
        "put_of_write_floor": round(spread(puts)["median"] / spread(floors)["median"], 3),
        "get_of_loopback": round(spread(gets)["median"] / spread(links)["median"], 3),
        "void_runs": void,
        "counts": void * 3 <= options.runs,
        **small,
    }


def touch(client: Client, folder: Path, options: argparse.Namespace) -> None:
    """Bring every contestant's disk space into use once before anything is timed."""
    path = folder / "touch.bin"
    handles = []
    for number in range(2):
        path.write_bytes(os.urandom(options.mib * MIB))
        handles.append(client.put(path, name=f"touch-{number}").handle)
    for handle in handles:
        client.rm(handle)
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline and not list(folder.glob("nodes/*/data/slices/spare/*")):
        time.sleep(0.1)
    path.unlink()


def small_objects(client: Client) -> dict[str, Any]:
    """10 KiB objects: one by one, in a batch, and back; the first byte of a range."""
    singles: list[float] = []
    for number in range(20):
        began = time.perf_counter()
        client.put(os.urandom(SMALL), name=f"single-{number}")
        singles.append(time.perf_counter() - began)
    batch = [ObjectToPut(name=f"small-{number}", data=os.urandom(SMALL)) for number in range(500)]
    began = time.perf_counter()
    stored = client.put_many(batch)
    put_seconds = time.perf_counter() - began
    handles = [each.handle for each in stored]
    began = time.perf_counter()
    back = client.get_many(handles)
    get_seconds = time.perf_counter() - began
    assert back == [each.data for each in batch], "small objects differ from what was stored"
    large = client.put(os.urandom(8 * MIB), name="range.bin").handle
    remote = client.open(large)
    firsts = []
    for number in range(20):
        began = time.perf_counter()
        next(iter(remote.stream(offset=number * 64 * 1024, length=MIB)))
        firsts.append((time.perf_counter() - began) * 1000)
    return {
        "small_put_seconds": spread(singles),
        "small_put_many_per_second": round(len(batch) / put_seconds, 1),
        "small_get_many_per_second": round(len(batch) / get_seconds, 1),
        "range_first_byte_ms": spread(firsts),
    }


def timed(into: list[float], size: int, action: Any, *arguments: object) -> Any:
    """Run and note MB/s."""
    began = time.perf_counter()
    result = action(*arguments)
    into.append(size / 1e6 / (time.perf_counter() - began))
    return result


def _options() -> argparse.Namespace:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--json", action="store_true")
    command.add_argument("--runs", type=int, default=5)
    command.add_argument("--mib", type=int, default=64)
    command.add_argument("--copies", type=int, default=4)
    command.add_argument("--transport", choices=("tls", "plain"), default="tls")
    command.add_argument("--folder", type=Path, help="where the testnet's disks are (default: the temporary folder)")
    return command.parse_args()


if __name__ == "__main__":
    main()
