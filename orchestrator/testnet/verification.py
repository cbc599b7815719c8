"""The last condition of `up`: one upload with all its copies, read back and compared byte for byte.

It pays with its own wallet, so that the user's ozone is not touched, and it is recorded in the client's traffic ledger
like any other transfer, because the audit counts every byte.
"""

from __future__ import annotations

import os
import time
from typing import Any

from orchestrator.errors import PartialFailure
from orchestrator.plan.keys import PROBE
from orchestrator.testnet.folder import TestnetFolder
from stratos.client.blocking import Client
from stratos.client.errors import ClientError

PROBE_BYTES = 1024 * 1024
PROBE_SECONDS = 30.0


def put_and_get(folder: TestnetFolder) -> dict[str, Any]:
    """Store 1 MiB of fresh random bytes, read it back; {bytes, copies, seconds}. Raises PartialFailure."""
    data = os.urandom(PROBE_BYTES)
    began = time.monotonic()
    try:
        with Client.from_testnet(
            folder.path, wallet=PROBE, ledger_dir=folder.ledger, deadline_seconds=PROBE_SECONDS
        ) as client:
            stored = client.put(data, name=f"probe-{time.time_ns()}")
            same = client.read(stored.handle) == data
            seconds = time.monotonic() - began
            client.rm(stored.handle)
    except ClientError as error:
        raise PartialFailure(
            f"testnet {folder.name} runs, but the verifying upload failed: {error}; read `stratosctl logs`, then run `up` again"
        ) from error
    if not same:
        raise PartialFailure(
            f"testnet {folder.name} runs, but gave back other bytes than were stored; read `stratosctl logs`"
        )
    return {"bytes": PROBE_BYTES, "copies": stored.copies, "seconds": round(seconds, 3), "verified": True}
