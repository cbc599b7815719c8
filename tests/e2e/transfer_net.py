"""A testnet for tests of transfers: four copies, slices of 1 MiB, short epochs, and a look behind its surfaces."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from up_driver import Tool, eventually

from stratos.client import Client
from stratos.client.remote import RemoteFile
from stratos.resource.pieces import SliceHashes
from stratos.wire.metalog import HolderInfo

MIB = 1024 * 1024
INVENTORY = """
all:
  vars:
    ansible_connection: local
    stratos_copies: 4
    stratos_block_seconds: 0.5
    stratos_meta_block_seconds: 0.5
    stratos_epoch_seconds: {epoch_seconds}
    stratos_day_seconds: 60
    stratos_status_seconds: 3
    stratos_suspend_offline_seconds: 600
    stratos_slice_bytes: 1 MiB
    stratos_slice_transport: {transport}
  children:
    validators: {{hosts: {{v1: }}}}
    meta: {{hosts: {{"m[1:4]": }}}}
    resource: {{hosts: {{"r[1:{holders}]": }}}}
"""


class Net:
    """The running testnet."""

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
            f"http://127.0.0.1:{self.ready(name)['ports']['http']}{path}", timeout=60
        ) as answer:
            return json.load(answer)

    def unsubmitted(self, client: Client) -> int:
        """noz that holders have served and not handed in yet."""
        return sum(self.http(name, "/status")["unsubmitted_noz"] for name in names_of(client).values())

    def slice_files(self) -> list[Path]:
        return [path for path in self.folder.glob("nodes/r*/data/slices/slices/*/*") if path.is_file()]


@contextmanager
def raised(folder: Path, *, transport: str = "tls", holders: int = 6, epoch_seconds: int = 20) -> Iterator[Net]:
    """One validator, four meta nodes and these holders, up; at the end no process and no file is left."""
    tool = Tool(folder)
    tool.write(INVENTORY.format(transport=transport, holders=holders, epoch_seconds=epoch_seconds))
    try:
        yield Net(tool, Path(tool.json("up")["folder"]))
    finally:
        assert tool.run("down", "--purge").returncode == 0
        eventually(lambda: tool.processes() == [])


def names_of(client: Client) -> dict[bytes, str]:
    return {address: info.name for address, info in client._core.directory().items()}


def holders_of(remote: RemoteFile) -> list[tuple[bytes, ...]]:
    remote.refresh()
    return [placed.holders for placed in remote.slices]


def digest_of(data: bytes) -> bytes:
    """The digest of a slice of these bytes: the name of its file at every holder."""
    hashes = SliceHashes()
    hashes.update(data)
    return hashes.finish()


def told(net: Net, name: str) -> HolderInfo:
    """What the meta layer says of a holder."""
    with net.client() as client:
        return next(info for info in client._core.directory().values() if info.name == name)
