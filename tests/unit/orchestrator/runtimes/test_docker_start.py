"""Starting a container that an interrupted run has made already."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.runtimes.containers import DIGEST_LABEL, NODE_LABEL
from orchestrator.runtimes.docker import DockerRuntime, _was_started
from orchestrator.runtimes.volumes import filled
from tests.unit.orchestrator.runtimes.test_containers import NETWORKS, wish

FILL = ("create_host_config", "create_container", "put_archive")


class Engine:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_arguments: Any, **_named: Any) -> dict[str, str]:
            self.calls.append(name)
            return {"Id": "c1"}

        return call


def listed(state: str) -> dict[str, Any]:
    """The engine's list entry of the very container that is wanted."""
    return {
        "Id": "c1",
        "State": state,
        "Labels": {DIGEST_LABEL: wish().digest},
        "NetworkSettings": {"Networks": {"stratos-net-eu": {}, "stratos-net-us": {}}},
    }


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (None, [*FILL, "create_container", "connect_container_to_network", "start", "remove_container"]),
        (listed("created"), [*FILL, "start", "remove_container"]),
        (listed("exited"), ["start"]),
        (listed("running"), []),
    ],
)
def test_no_container_starts_without_its_files(tmp_path: Path, there: dict[str, Any] | None, asked: list[str]) -> None:
    """One that was made and never started may have been left before its files reached the volume."""
    plan: Any = SimpleNamespace(name="net", operated=())
    runtime = DockerRuntime(plan, tmp_path, say=lambda _text: None)
    engine = Engine()
    runtime._held._connected = SimpleNamespace(api=engine)
    with filled(runtime._held, [] if _was_started(wish(), there) else [wish()]):
        assert runtime._start_one(wish(), there, frozenset(), 10) == bool(asked)
    assert engine.calls == asked


def test_files_that_are_not_wanted_any_more_are_taken_out_first(tmp_path: Path) -> None:
    """Of a volume that was there before: a key that was withdrawn is gone before the node starts."""
    plan: Any = SimpleNamespace(name="net", operated=())
    runtime = DockerRuntime(plan, tmp_path, say=lambda _text: None)
    engine, helped = Engine(), []

    def run(_image: str, command: list[str], **_named: Any) -> bytes:
        helped.append([word for word in command if word.startswith("/home/stratos/")])
        assert engine.calls == []
        return b"1\n"

    runtime._held._connected = SimpleNamespace(api=engine, containers=SimpleNamespace(run=run))
    assert runtime._start_one(wish(), None, frozenset({wish().name}), 10)
    assert helped == [[f"/home/stratos/{name}" for name in ("genesis.json", "wallet.key", "faucet.key")]]


def test_a_container_that_the_engine_starts_again_and_again_has_failed(tmp_path: Path) -> None:
    """The engine's count is read anew each time: who waits for the node is told after a few attempts, not at the deadline."""
    node = wish().node
    plan: Any = SimpleNamespace(name="net", operated=(node,), networks=NETWORKS)
    runtime = DockerRuntime(plan, tmp_path, say=lambda _text: None)
    entry = {**listed("restarting"), "Status": "Restarting (3) 1 second ago"}
    entry["Labels"] = {**entry["Labels"], NODE_LABEL: node.name}
    seen = []
    for restarts in (1, 4, 5):
        details = {"RestartCount": restarts, "State": {}}
        api = SimpleNamespace(containers=lambda **_: [entry], inspect_container=lambda _id, found=details: found)
        api.inspect_image = lambda _image: {"Id": "sha256:1"}
        runtime._held._connected = SimpleNamespace(api=api)
        seen.append(runtime.status()[node.name].state)
    assert seen == ["waiting", "waiting", "failed"]
