"""Scripts as builders: a rule is shown by a few steps and the figures they give."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.replay.runner import replay
from orchestrator.replay.script import parse_script

STOS = 10**18
Run = Callable[..., list[dict[str, Any]]]


def _genesis(metas: int, **changed: Any) -> dict[str, Any]:
    return {
        "accounts": {"alice": str(1000 * STOS), "bob": str(1000 * STOS)},
        "foundation": str(40_000_000 * STOS),
        "meta_nodes": [{"name": f"m{n}", "deposit": str(100 * STOS)} for n in range(1, metas + 1)],
        "resource_nodes": [{"name": "r1", "deposit": str(STOS)}],
        "validators": [{"name": "v1", "stake": str(STOS)}],
        **changed,
    }


@pytest.fixture
def run() -> Run:
    """run(*steps, metas=4, pot=..., register=..., **genesis parts) -> results."""

    def _run(
        *steps: dict[str, Any],
        metas: int = 4,
        pot: dict[str, Any] | None = None,
        register: dict[str, Any] | None = None,
        **genesis: Any,
    ) -> list[dict[str, Any]]:
        script = {
            "params": {"pot": pot or {}, "register": register or {}},
            "genesis": _genesis(metas, **genesis),
            "steps": list(steps),
        }
        return replay(parse_script(json.dumps(script)))["steps"]  # type: ignore[no-any-return]

    return _run


def _ask(what: str, **where: Any) -> dict[str, Any]:
    return {"do": "query", "what": what, **where}


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """A query step."""
    return _ask


@pytest.fixture
def prepay() -> dict[str, Any]:
    """Alice prepays 10 STOS."""
    return {"do": "prepay", "from": "alice", "amount": str(10 * STOS)}
