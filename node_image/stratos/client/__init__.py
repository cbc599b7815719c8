"""The user's SDK: buy ozone, put, get, stream, list and remove files on a Stratos network.

    from stratos.client import Client
    with Client.from_testnet(Path(".testnets/local")) as client:
        result = client.put(Path("film.mp4"), name="film.mp4")
        client.get(result.handle, Path("copy.mp4"))

`Client` is the blocking face and the real implementation: blocking sockets in plain threads, no event loop, so it also
runs under gevent (Locust). `AsyncClient` is the same core behind awaitable methods, for asyncio programs. Both may be
shared by threads (tasks, greenlets). Sessions, allotments, receipts, retries and failover are the client's own business;
a caller sees results or one `ClientError` with a sentence.

Every byte handed to a caller has been checked against the BLAKE3 tree of its slice. A refused or failed transfer
is never charged. With `ledger_dir` every operation appends one typed JSON line (`stratos.client.ledgerfile`), the
load generator's own account of what it moved and signed for, which the audit compares with the nodes' and the chain's.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratos.client.aio import AsyncClient
    from stratos.client.blocking import Client
    from stratos.client.errors import (
        BadInput,
        ClientError,
        Environment,
        IntegrityError,
        NotEnoughOzone,
        NotFound,
        Refused,
        Unreachable,
    )
    from stratos.client.records import (
        BalanceView,
        Endpoints,
        FileEntry,
        GetResult,
        ObjectToPut,
        PrepayResult,
        PutResult,
        UploadFile,
    )
    from stratos.client.remote import RemoteFile
    from stratos.client.testnet import Testnet, load_testnet
    from stratos.client.upload import Upload

_HOMES = {
    "AsyncClient": "aio",
    "Client": "blocking",
    "BadInput": "errors",
    "ClientError": "errors",
    "Environment": "errors",
    "IntegrityError": "errors",
    "NotEnoughOzone": "errors",
    "NotFound": "errors",
    "Refused": "errors",
    "Unreachable": "errors",
    "BalanceView": "records",
    "Endpoints": "records",
    "FileEntry": "records",
    "GetResult": "records",
    "ObjectToPut": "records",
    "PrepayResult": "records",
    "PutResult": "records",
    "UploadFile": "records",
    "RemoteFile": "remote",
    "Testnet": "testnet",
    "load_testnet": "testnet",
    "Upload": "upload",
}
__all__ = [
    "AsyncClient",
    "BadInput",
    "BalanceView",
    "Client",
    "ClientError",
    "Endpoints",
    "Environment",
    "FileEntry",
    "GetResult",
    "IntegrityError",
    "NotEnoughOzone",
    "NotFound",
    "ObjectToPut",
    "PrepayResult",
    "PutResult",
    "Refused",
    "RemoteFile",
    "Testnet",
    "Unreachable",
    "Upload",
    "UploadFile",
    "load_testnet",
]


def __getattr__(name: str) -> Any:
    # Lazy: a program that only lists files does not import asyncio, and nobody pays for what it does not use.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
