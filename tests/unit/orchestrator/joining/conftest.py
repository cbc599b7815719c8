"""A coordinator's folder, planned and written but not running, and tickets that it issues."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.joining.issuing import TicketWish, make_ticket
from orchestrator.plan.plan import Existing, Outcome, make_plan
from orchestrator.testnet.folder import TestnetFolder
from stratos.wire.ticket import Ticket
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology

NOW = 1_800_000_000_000
Issue = Callable[..., Ticket]


@pytest.fixture
def outcome() -> Outcome:
    """A planned testnet of the default shape."""
    return make_plan(topology(), Existing(), SEARCH, random=counter(), time_ms=NOW, is_free=lambda port: True)


@pytest.fixture
def folder(tmp_path: Path, outcome: Outcome) -> TestnetFolder:
    """Its folder, written."""
    folder = TestnetFolder(tmp_path / "net")
    folder.path.mkdir()
    folder.save_ring(outcome.ring)
    folder.save_plan(outcome.plan)
    folder.save_genesis(outcome.genesis)
    folder.save_wallets(outcome.ring)
    folder.save_endpoints(outcome.plan)
    return folder


@pytest.fixture
def issue(folder: TestnetFolder) -> Issue:
    """issue(role="resource", ...) -> a ticket of that testnet."""

    def make(*, role: str = "resource", expires_seconds: int = 3600, now_ms: int = NOW, **wish: object) -> Ticket:
        wanted = TicketWish(role=role, expires_seconds=expires_seconds, **wish)  # type: ignore[arg-type]
        return make_ticket(folder, wanted, now_ms=now_ms, ticket_id=b"i" * 16)

    return make
