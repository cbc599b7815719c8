"""The process runtime and its fork parent, with real processes of a trivial node."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.runtimes.identity import ProcessIdentity, lock_holder, send_signal
from orchestrator.runtimes.process import ProcessRuntime
from orchestrator.runtimes.protocol import NodeFiles
from tests.unit.orchestrator.runtimes.conftest import TRIVIAL_NODE, eventually, kill_parent, processes_under


def place(runtime: ProcessRuntime, *names: str, config: str = "plain") -> frozenset[str]:
    return runtime.place([NodeFiles(name, {"config.json": config.encode()}) for name in names])


def ready(runtime: ProcessRuntime, name: str) -> dict[str, object]:
    """What the node wrote after it started, once it is of the process that runs now."""
    path = runtime.home(name) / "ready.json"
    pid = runtime.status()[name].pid
    eventually(lambda: path.exists() and json.loads(path.read_text())["pid"] == pid)
    answer: dict[str, object] = json.loads(path.read_text())
    return answer


def test_started_nodes_run_in_their_own_session_with_their_own_log(runtime: ProcessRuntime) -> None:
    """A forked node leads its own session, keeps only its lock and standard streams, and has its own random state."""
    place(runtime, "a", "b")
    assert runtime.start(["a", "b"]) == {"a", "b"}
    first, second = ready(runtime, "a"), ready(runtime, "b")
    assert first["session"] == first["pid"]
    assert first["umask"] == 0o077
    assert first["random"] != second["random"]
    home = runtime.home("a")
    descriptors = first["descriptors"]
    assert isinstance(descriptors, list)
    assert set(descriptors) == {"/dev/null", str(home / "node.log"), str(home / "process.lock")}
    assert "starting a" in runtime.log("a").read_text()
    assert {state.state for state in runtime.status().values()} == {"running"}


def test_starting_twice_changes_nothing(runtime: ProcessRuntime) -> None:
    """A node that runs what is placed is left alone."""
    place(runtime, "a")
    runtime.start(["a"])
    pid = runtime.status()["a"].pid
    assert place(runtime, "a") == frozenset()
    assert runtime.start(["a"]) == frozenset()
    assert runtime.status()["a"].pid == pid


def test_a_changed_file_replaces_only_its_node(runtime: ProcessRuntime) -> None:
    """A node whose files differ is stopped and started anew; its neighbour keeps its process."""
    place(runtime, "a", "b")
    runtime.start(["a", "b"])
    before = runtime.status()
    assert place(runtime, "a", config="other") == {"a"}
    assert runtime.start(["a", "b"]) == {"a"}
    after = runtime.status()
    assert ready(runtime, "a")["config"] == "other"
    assert before["a"].pid != after["a"].pid
    assert before["b"].pid == after["b"].pid


def test_a_killed_node_is_started_again(runtime: ProcessRuntime) -> None:
    """A node that dies unasked comes back, and the restart is counted with its reason."""
    place(runtime, "a")
    runtime.start(["a"])
    state = runtime.status()["a"]
    send_signal(ProcessIdentity(state.pid, state.start), signal.SIGKILL)
    eventually(lambda: runtime.status()["a"].pid not in (0, state.pid))
    eventually(lambda: runtime.status()["a"].restarts == 1 and runtime.status()["a"].current)
    assert runtime.status()["a"].last_exit == "killed by signal 9"


def test_kill_and_stop_keep_a_node_down(runtime: ProcessRuntime) -> None:
    """What was stopped or killed on purpose stays down until it is started."""
    place(runtime, "a", "b")
    runtime.start(["a", "b"])
    assert runtime.kill(["a"]) == {"a"}
    assert runtime.stop(["b"]) == {"b"}
    assert {state.state for state in runtime.status().values()} == {"stopped"}
    assert runtime.start(["a", "b"]) == {"a", "b"}
    assert {state.state for state in runtime.status().values()} == {"running"}


def test_a_node_that_never_stays_up_is_given_up_and_tried_again_when_asked(runtime: ProcessRuntime) -> None:
    """After the allowed failures the supervisor stops trying; start tries once more, with mended files."""
    place(runtime, "a", config="crash")
    runtime.start(["a"])
    eventually(lambda: runtime.status()["a"].state == "failed")
    assert runtime.status()["a"].last_exit == "exit code 9"
    place(runtime, "a", config="plain")
    assert runtime.start(["a"]) == {"a"}
    assert ready(runtime, "a")["config"] == "plain"


def test_a_new_parent_adopts_what_the_dead_one_left(runtime: ProcessRuntime) -> None:
    """Nodes outlive their parent; the next start finds them running and supervises them as its own."""
    place(runtime, "a", "b")
    runtime.start(["a", "b"])
    before = {name: state.pid for name, state in runtime.status().items()}
    kill_parent(runtime)
    assert {name: state.pid for name, state in runtime.status().items()} == before
    assert runtime.start(["a", "b"]) == frozenset()
    assert {name: state.pid for name, state in runtime.status().items()} == before
    state = runtime.status()["a"]
    send_signal(ProcessIdentity(state.pid, state.start), signal.SIGKILL)
    eventually(lambda: runtime.status()["a"].pid not in (0, state.pid))


def test_new_code_replaces_the_parent_and_then_the_nodes(runtime: ProcessRuntime, entry: str) -> None:
    """A parent with older code hands over; its nodes are replaced because their digest covers the code."""
    place(runtime, "a")
    runtime.start(["a"])
    pid = runtime.status()["a"].pid
    parent = lock_holder(runtime.own / "lock")
    newer = ProcessRuntime(runtime.folder, code="two", entry=entry)
    assert newer.parent_code() == "one"
    assert newer.start(["a"]) == {"a"}
    assert lock_holder(runtime.own / "lock") != parent
    assert newer.status()["a"].pid != pid


def test_finish_leaves_no_process(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """After finish neither nodes nor parent exist, and finishing again finds nothing to do."""
    place(runtime, "a", "b", "c")
    runtime.start(["a", "b", "c"])
    assert runtime.finish() == {"a", "b", "c"}
    assert processes_under(tmp_path) == []
    assert runtime.finish() == frozenset()


def test_finish_finds_nodes_without_a_parent(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """When the parent is dead, the homes' locks tell which processes to end."""
    place(runtime, "a", "b")
    runtime.start(["a", "b"])
    kill_parent(runtime)
    assert runtime.finish() == {"a", "b"}
    assert processes_under(tmp_path) == []


def test_a_deaf_node_is_killed_after_the_grace(runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that ignores SIGTERM does not survive a stop."""
    place(runtime, "a", config="deaf")
    runtime.start(["a"])
    ready(runtime, "a")
    kill_parent(runtime)
    monkeypatch.setattr("orchestrator.runtimes.process.GRACE_SECONDS", 0.2)
    assert runtime.stop(["a"]) == {"a"}
    assert runtime.status()["a"].pid == 0


def test_nodes_end_when_their_folder_is_removed(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """Removing a testnet's folder under a running testnet ends it: nothing is left that nobody can find."""
    place(runtime, "a")
    runtime.start(["a"])
    runtime.folder.rename(tmp_path / "moved")
    eventually(lambda: processes_under(tmp_path) == [])


def test_exec_spawn_runs_one_program_per_node(tmp_path: Path, entry: str) -> None:
    """With spawn exec a node is its own program under the same lock and supervision."""
    folder = tmp_path / "net"
    folder.mkdir()
    runtime = ProcessRuntime(folder, code="one", entry=entry, spawn="exec")
    try:
        place(runtime, "a")
        assert runtime.start(["a"]) == {"a"}
        answer = ready(runtime, "a")
        assert (
            Path(f"/proc/{answer['pid']}/cmdline")
            .read_bytes()
            .endswith(b"run\0--home\0" + os.fsencode(runtime.home("a")) + b"\0")
        )
        assert runtime.start(["a"]) == frozenset()
    finally:
        runtime.finish()
    assert processes_under(tmp_path) == []


def test_a_parent_with_threads_refuses_to_fork(tmp_path: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that starts a thread on import is an error that names the reason, not a deadlock in a child."""
    monkeypatch.setenv("TRIVIAL_THREAD", "1")
    folder = tmp_path / "net"
    folder.mkdir()
    runtime = ProcessRuntime(folder, code="one", entry=entry)
    place(runtime, "a")
    try:
        with pytest.raises(EnvironmentFault, match="2 threads"):
            runtime.start(["a"])
    finally:
        runtime.finish()


def test_an_entry_that_cannot_be_imported_is_said(tmp_path: Path) -> None:
    """A broken node package is reported with the import error."""
    folder = tmp_path / "net"
    folder.mkdir()
    runtime = ProcessRuntime(folder, code="one", entry="no_such_module_here")
    place(runtime, "a")
    try:
        with pytest.raises(EnvironmentFault, match="no_such_module_here"):
            runtime.start(["a"])
    finally:
        runtime.finish()


def test_a_mended_environment_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that could not load the node's code does not stay: the next start loads anew, with the same code digest."""
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(modules))
    folder = tmp_path / "net"
    folder.mkdir()
    runtime = ProcessRuntime(folder, code="one", entry="mended_later")
    place(runtime, "a")
    try:
        with pytest.raises(EnvironmentFault, match="mended_later"):
            runtime.start(["a"])
        (modules / "mended_later.py").write_text(TRIVIAL_NODE)
        assert ProcessRuntime(folder, code="one", entry="mended_later").start(["a"]) == {"a"}
    finally:
        runtime.finish()


def test_a_parent_nobody_assigns_leaves(entry: str) -> None:
    """A launched parent whose launcher is gone leaves by itself."""
    from orchestrator.runtimes.launch import launch_parent

    launched = launch_parent(entry)
    launched.dismiss()
    pid, status = os.waitpid(launched.pid, 0)
    assert (pid, os.waitstatus_to_exitcode(status)) == (launched.pid, 0)
