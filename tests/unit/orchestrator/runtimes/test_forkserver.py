"""The fork parent's loop, without forking."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import cast

import pytest

from orchestrator.runtimes.forkserver import Supervisor
from orchestrator.runtimes.identity import identify
from orchestrator.runtimes.preloading import Preloader
from orchestrator.runtimes.supervision import Track


def test_stopping_a_node_that_has_just_ended_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adopted node may end between the look at it and its stop signal; its supervisor goes on and sees it gone."""
    child = subprocess.Popen(["sleep", "60"])
    supervisor = Supervisor(tmp_path, preloader=cast(Preloader, None), code="")
    process = identify(child.pid)
    assert process is not None
    supervisor.tracks["a"] = Track(process=process)
    supervisor.descriptors["a"] = os.pidfd_open(child.pid)
    looked = supervisor._collect_ended

    def look_and_lose() -> None:
        looked()
        child.kill()
        child.wait()

    monkeypatch.setattr(supervisor, "_collect_ended", look_and_lose)
    supervisor._reconcile()
    monkeypatch.setattr(supervisor, "_collect_ended", looked)
    supervisor._reconcile()
    assert supervisor.tracks == {}
