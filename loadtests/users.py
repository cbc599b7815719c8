"""The three kinds of user, built on the blocking face of the client.

All users of a process share one client per wallet (so one session, one set of connections) and one catalogue of stored
objects. Each operation is timed as one Locust request with its real number of bytes and is only a success after its
check: an upload must come back with the object's own content name and enough copies, a download or stream with
its BLAKE3. A failed check is a failed request and fails the run.
"""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blake3 import blake3
from locust import User, constant, constant_throughput, task

from loadtests.data import SeededObject, seeded_object
from loadtests.options import LoadOptions
from loadtests.results import HashMismatchError, Results, Sample
from stratos.client import Client, PutResult
from stratos.crypto.cid import file_cid, multihash
from stratos.crypto.handle import parse_handle

IDLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in the network and whose wallet reads it."""

    item: SeededObject
    handle: str
    wallet: str


class Workload:
    """What the users of one process share: clients by wallet, the catalogue, the counters."""

    def __init__(self, options: LoadOptions) -> None:
        self.options = options
        self.results = Results()
        self.catalogue: list[Stored] = []
        self._numbers = itertools.count()
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def client(self, wallet: str) -> Client:
        """The process's client of a wallet of the testnet."""
        with self._lock:
            if wallet not in self._clients:
                self._clients[wallet] = Client.from_testnet(
                    self.options.testnet, wallet=wallet, deadline_seconds=self.options.deadline_seconds
                )
            return self._clients[wallet]

    def next_object(self) -> SeededObject:
        """An object that this process has not made before."""
        return seeded_object(self.options.seed, next(self._numbers), self.options.smallest, self.options.largest)

    def put(self, wallet: str) -> int:
        """Store the next object, check what came back, add it to the catalogue; its size."""
        item = self.next_object()
        data = item.read()
        result = self.client(wallet).put(data, name=item.name, copies=self.options.copies)
        check_put(item, data, result)
        self.catalogue.append(Stored(item, result.handle, wallet))
        return item.size

    def preload(self) -> None:
        """Store the first objects, so that readers have something to read from their first moment on."""
        for number in range(self.options.preload):
            self.results.preload_bytes += self.put(self.options.wallets[number % len(self.options.wallets)])
            self.results.preloaded += 1

    def close(self) -> None:
        """Settle and close every client."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def check_put(item: SeededObject, data: bytes, result: PutResult) -> None:
    """Raise unless the network stored exactly these bytes under their own name, with all copies."""
    if parse_handle(result.handle).cid != file_cid(multihash(data)) or result.bytes != item.size:
        raise HashMismatchError(f"{item.name} of {item.size} bytes was stored as {result.handle}, {result.bytes} bytes")
    if result.degraded:
        raise AssertionError(f"{item.name} has only {result.copies} durable copies")


class LoadUser(User):
    """Common to all users: the shared workload, the wallet, measuring."""

    abstract = True
    workload: Workload
    kind = ""
    _turn = itertools.count()

    def on_start(self) -> None:
        """Take a wallet in turn and a random source of one's own."""
        turn = next(LoadUser._turn)
        wallets = self.workload.options.wallets
        self.wallet = wallets[turn % len(wallets)]
        self.random = random.Random(f"{self.workload.options.seed}/{turn}")
        self.idle = False

    def wait_time(self) -> float:
        """The pace of this kind of user, as `--<kind>-rate` says; a pause when there was nothing to do or it failed."""
        if self.idle:
            self.idle = False
            return IDLE_SECONDS
        rate = self.workload.options.rates[self.kind]
        wait = constant_throughput(rate) if rate > 0 else constant(0)
        return float(wait(self))

    @contextmanager
    def measured(self) -> Iterator[dict[str, float]]:
        """One operation: times it, counts it, and tells Locust. Fill in `bytes` (and `first_byte`)."""
        told: dict[str, float] = {}
        started_at, started = time.time(), time.perf_counter()
        failure: Exception | None = None
        try:
            yield told
        except Exception as error:  # noqa: BLE001 - whatever went wrong, it is this operation's failure and is reported
            failure = error
            self.idle = True
        seconds = time.perf_counter() - started
        size = int(told.get("bytes", 0))
        self.workload.results.add(
            Sample(started_at, self.kind, seconds, size, failure is None, told.get("first_byte")), failure
        )
        self.environment.events.request.fire(
            request_type=self.kind,
            name=self.kind,
            response_time=seconds * 1000,
            response_length=size,
            exception=failure,
            context={},
            start_time=started_at,
        )

    def pick(self) -> Stored | None:
        """Something stored by this user's wallet, or None yet."""
        choices = [stored for stored in self.workload.catalogue if stored.wallet == self.wallet]
        self.idle = not choices
        return self.random.choice(choices) if choices else None


class UploadUser(LoadUser):
    """Stores one new object after another."""

    abstract = True
    kind = "upload"

    @task
    def upload(self) -> None:
        """Put the next seeded object."""
        with self.measured() as told:
            told["bytes"] = self.workload.put(self.wallet)


class DownloadUser(LoadUser):
    """Reads whole stored objects."""

    abstract = True
    kind = "download"

    @task
    def download(self) -> None:
        """Read one object and compare it with what its seed says."""
        stored = self.pick()
        if stored is None:
            return
        with self.measured() as told:
            data = self.workload.client(self.wallet).read(stored.handle)
            told["bytes"] = len(data)
            if data != stored.item.read():
                raise HashMismatchError(f"{stored.handle} came back as other bytes")


class StreamUser(LoadUser):
    """Reads stored objects as a player does: in order, from the first byte on, one seek in between."""

    abstract = True
    kind = "stream"

    @task
    def stream(self) -> None:
        """Stream one object, measuring the first byte, and check it as it goes by."""
        stored = self.pick()
        if stored is None:
            return
        with self.measured() as told:
            started = time.perf_counter()
            offset = self.random.choice((0, stored.item.size // 2))
            hasher, size = blake3(), 0
            for chunk in self.workload.client(self.wallet).stream(stored.handle, offset=offset):
                if size == 0:
                    told["first_byte"] = time.perf_counter() - started
                hasher.update(chunk)
                size += len(chunk)
                told["bytes"] = size
            if hasher.digest() != blake3(stored.item.read(offset)).digest():
                raise HashMismatchError(f"{stored.handle} from {offset} came back as other bytes")
