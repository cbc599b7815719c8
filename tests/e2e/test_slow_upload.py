"""Uploads whose data comes more slowly than epochs pass, on a real testnet with epochs of two seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from transfer_net import Net, raised
from up_driver import eventually

from stratos.client import Client, UploadFile

EPOCHS_TO_BE_VOID = 3


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with raised(tmp_path_factory.mktemp("slow"), holders=4, epoch_seconds=2) as testnet:
        yield testnet


def _epochs_pass(client: Client) -> None:
    until = client._core.epoch() + EPOCHS_TO_BE_VOID
    eventually(lambda: client._core.epoch() >= until)


def test_an_upload_may_wait_for_its_data_and_for_its_end_longer_than_receipts_live(net: Net) -> None:
    """Pauses of several epochs between slices and before the end cost nothing: the file is whole and paid once."""
    parts = [os.urandom(200_000) for _ in range(2)]
    with net.client() as client, client.begin_upload() as upload:
        for part in parts:
            upload.add(part)
            _epochs_pass(client)
        result = upload.complete([UploadFile(name="slow.bin", slices=(0, 1))])[0]
        assert (result.copies, result.degraded, result.charged_noz) == (4, False, 2 * 4 * 210_000)
        assert client.read(result.handle) == b"".join(parts)
