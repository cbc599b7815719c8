"""Fixtures of the resource room's tests: a certifying meta layer, and nets of real holders on loopback."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bulk_net import Meta, Net


@pytest.fixture
def meta() -> Meta:
    """A meta layer of keys."""
    return Meta()


@pytest.fixture(params=["plain", "tls"])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Net]:
    """A net on either transport; everything is stopped at the end."""
    made = Net(tmp_path, request.param)
    yield made
    made.stop()


@pytest.fixture
def plain_net(tmp_path: Path) -> Iterator[Net]:
    """A net on plain transport, for tests where transport makes no difference."""
    made = Net(tmp_path, "plain")
    yield made
    made.stop()
