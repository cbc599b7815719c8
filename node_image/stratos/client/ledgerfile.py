"""The load generator's own ledger: one JSON line per thing a client did or signed (`ledger/*.jsonl` of a testnet).

Written by nobody but the client, so that the audit can compare it with the nodes' receipts and with the chain. Every total
this client ever put its signature under is in a `receipt` line; cumulative receipts are joined on (kind, task, earner).
Each client process writes a file of its own, by appending whole lines; a torn last line after a kill is ignored
by readers. Byte strings are lower-case hex.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

LEDGER_SUFFIX = ".jsonl"


class OperationLine(Struct, frozen=True, kw_only=True, tag="operation"):
    """One call of the client: put, put_many, get, range, stream, rm, prepay, session, abort, dispute."""

    time_ms: int
    op: str
    wallet: str
    ok: bool
    bytes: int = 0
    noz: int = 0
    handle: str = ""
    task: str = ""
    """Upload or session id."""
    holder: str = ""
    epoch: int = 0
    seconds: float = 0.0
    error: str = ""


class ReceiptLine(Struct, frozen=True, kw_only=True, tag="receipt"):
    """A receipt body this client signed: as giver of an upload (kind 1), as taker of a download (kind 2)."""

    time_ms: int
    wallet: str
    kind: int
    task: str
    earner: str
    epoch: int
    total_noz: int
    digest: str


LedgerLine = OperationLine | ReceiptLine
_decoder = msgspec.json.Decoder(LedgerLine)
_encoder = msgspec.json.Encoder()


class LedgerFile:
    """Appends lines; thread-safe. Without a folder it keeps nothing."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self.path = None if folder is None else folder / f"{name}{LEDGER_SUFFIX}"
        self._lock = threading.Lock()
        self._descriptor = -1
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)

    def write(self, *lines: LedgerLine) -> None:
        """Append lines, each in one piece."""
        if self._descriptor < 0 or not lines:
            return
        data = b"".join([_encoder.encode(line) + b"\n" for line in lines])
        with self._lock:
            if self._descriptor >= 0:
                os.write(self._descriptor, data)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def read_ledger(folder: Path) -> Iterator[LedgerLine]:
    """Every whole line of every ledger file in a folder, files by name; raises ValueError naming a damaged line."""
    for path in sorted(folder.glob(f"*{LEDGER_SUFFIX}")):
        data = path.read_bytes()
        lines = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line or (number == len(lines) and not data.endswith(b"\n")):
                continue
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError as error:
                raise ValueError(f"{path}:{number} is not a ledger line: {error}") from error
