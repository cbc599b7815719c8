"""`AsyncClient`: the same core behind awaitable methods, each run on the client's own small thread pool.

Methods and results are those of `Client`; `stream` is an async iterator. Cancelling an awaiting task leaves the
running transfer to end by itself (its receipts stay consistent) and drops the result.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from stratos.client.blocking import Client, Source, Target
from stratos.client.records import (
    BalanceView,
    FileEntry,
    GetResult,
    ObjectToPut,
    PrepayResult,
    ProgressCallback,
    PutResult,
)
from stratos.client.remote import RemoteFile
from stratos.client.upload import Upload

R = TypeVar("R")
CALLS_AT_ONCE = 16
_DONE = object()


class AsyncClient:
    """Wraps a `Client`; use as an async context manager."""

    def __init__(self, client: Client) -> None:
        self.blocking = client
        self._pool = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="stratos-async")

    @classmethod
    async def from_testnet(
        cls, folder: Path, *, wallet: str = "user", ledger_dir: Path | None = None, deadline_seconds: float = 30.0
    ) -> "AsyncClient":
        """See `Client.from_testnet`."""
        made = partial(
            Client.from_testnet, folder, wallet=wallet, ledger_dir=ledger_dir, deadline_seconds=deadline_seconds
        )
        return cls(await asyncio.to_thread(made))

    async def balance(self) -> BalanceView:
        """Ozone of this wallet."""
        return await self._run(self.blocking.balance)

    async def prepay(self, amount_wei: int, *, beneficiary: bytes | None = None) -> PrepayResult:
        """Buy ozone; see `Client.prepay`."""
        return await self._run(self.blocking.prepay, amount_wei, beneficiary=beneficiary)

    async def put(
        self,
        source: Source,
        *,
        name: str | None = None,
        copies: int | None = None,
        video: bool = False,
        tag: str = "",
        note: bytes = b"",
        progress: ProgressCallback | None = None,
    ) -> PutResult:
        """Store a file, bytes or a binary file object; see `Client.put`."""
        return await self._run(
            self.blocking.put, source, name=name, copies=copies, video=video, tag=tag, note=note, progress=progress
        )

    async def put_many(self, objects: Sequence[ObjectToPut], *, copies: int | None = None) -> list[PutResult]:
        """Store many small objects with one placement."""
        return await self._run(self.blocking.put_many, objects, copies=copies)

    async def begin_upload(self, *, copies: int | None = None) -> Upload:
        """An upload to add slices to; its methods block, so call them with `asyncio.to_thread`."""
        return await self._run(self.blocking.begin_upload, copies=copies)

    async def open(self, handle: str) -> RemoteFile:
        """A stored file; its methods block, so call them with `asyncio.to_thread`."""
        return await self._run(self.blocking.open, handle)

    async def open_upload(self, upload_id: bytes) -> RemoteFile:
        """An upload in progress, for reading."""
        return await self._run(self.blocking.open_upload, upload_id)

    async def get(self, handle: str, target: Target, *, progress: ProgressCallback | None = None) -> GetResult:
        """Download to a path or file object; see `Client.get`."""
        return await self._run(self.blocking.get, handle, target, progress=progress)

    async def read(self, handle: str) -> bytes:
        """A whole file in memory."""
        return await self._run(self.blocking.read, handle)

    async def read_range(self, handle: str, offset: int, length: int) -> bytes:
        """Verified bytes of a range."""
        return await self._run(self.blocking.read_range, handle, offset, length)

    async def get_many(self, handles: Sequence[str]) -> list[bytes]:
        """Many small files, in order."""
        return await self._run(self.blocking.get_many, handles)

    async def stream(self, handle: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Verified chunks in order."""
        chunks: Iterator[bytes] = self.blocking.stream(handle, offset=offset, length=length)
        try:
            while (chunk := await self._run(next, chunks, _DONE)) is not _DONE:
                assert isinstance(chunk, bytes)
                yield chunk
        finally:
            close: Callable[[], None] | None = getattr(chunks, "close", None)
            if close is not None:
                await self._run(close)

    async def ls(self) -> list[FileEntry]:
        """Files of this wallet."""
        return await self._run(self.blocking.ls)

    async def rm(self, handle: str) -> None:
        """Remove a file."""
        await self._run(self.blocking.rm, handle)

    async def close(self) -> None:
        """Settle and close."""
        await self._run(self.blocking.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, action: Callable[..., R], *arguments: Any, **named: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(action, *arguments, **named))
