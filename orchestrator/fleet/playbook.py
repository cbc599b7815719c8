"""Runs one of our playbooks with ansible-runner: progress while it runs, what each host came to at its end.

The playbooks are ordinary ones that a person may run by hand; this only adds what the tool knows (extra variables), and
reads events instead of text. A host that failed or was never reached is told with its own first error, because what
comes after it are consequences.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

import orchestrator
from orchestrator.errors import EnvironmentFault

PLAYBOOKS = Path(orchestrator.__file__).resolve().parent.parent / "playbooks"
_FAILED = ("runner_on_failed", "runner_on_unreachable", "runner_item_on_failed")
Say = Callable[[str], None]


class PlaybookRun(Struct, frozen=True, kw_only=True):
    """What a run came to. `failed`: inventory host -> its first error; `changed`: tasks that changed something, by host;
    `results`: by host, what tasks named in `wanted` returned; `tasks`: host-tasks that were run."""

    failed: dict[str, str]
    changed: dict[str, int]
    results: dict[str, dict[str, Any]]
    tasks: int


def run_playbook(
    name: str,
    *,
    inventory: Path,
    work: Path,
    extra: Mapping[str, Any],
    limit: Sequence[str],
    tags: Sequence[str] = (),
    check: bool = False,
    wanted: Sequence[str] = (),
    say: Say,
) -> PlaybookRun:
    """Run `playbooks/NAME` on the hosts in `limit`; raises EnvironmentFault when it could not even begin.

    `work` is a folder for ansible-runner's own files (mode 0700). `extra` stands in the command line of ansible-playbook, so
    it holds names of files with secrets and never secrets. Nothing of an earlier run is taken along: ansible-runner would
    read the variables and options of the first run from `env` for ever.
    """
    import ansible_runner  # 150 ms, only when a playbook runs

    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    for earlier in ("artifacts", "env"):
        shutil.rmtree(work / earlier, ignore_errors=True)
    events = _Events(say, frozenset(wanted))
    arguments = ["--limit", ",".join(("localhost", *limit))]
    if tags:
        arguments += ["--tags", ",".join(tags)]
    if check:
        arguments.append("--check")
    try:
        runner = ansible_runner.interface.run(  # type: ignore[no-untyped-call]  # it carries no types
            private_data_dir=str(work),
            playbook=str(PLAYBOOKS / name),
            inventory=str(inventory.resolve()),
            extravars=dict(extra),
            cmdline=" ".join(arguments),
            envvars=_environment(),
            event_handler=events.take,
            quiet=True,
            suppress_env_files=True,
        )
    finally:
        for record in (work / "artifacts").glob("*/command"):
            record.unlink()  # it holds the whole environment of the operator's shell
    if runner.status == "canceled":  # it takes SIGINT and SIGTERM for itself
        raise KeyboardInterrupt
    if runner.status in ("error", "timeout") or (runner.rc not in (0, None) and not events.failed):
        raise EnvironmentFault(
            f"the playbook {name} could not run ({events.last_line or runner.status}); try it by hand: "
            f"{Path(sys.executable).parent / 'ansible-playbook'} -i {inventory} {PLAYBOOKS / name}"
        )
    return PlaybookRun(failed=events.failed, changed=events.changed, results=events.results, tasks=events.tasks)


def _environment() -> dict[str, str]:
    """Ansible from this environment, with the playbooks' own settings."""
    programs = str(Path(sys.executable).parent)
    return {
        "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
        "PATH": programs + os.pathsep + os.environ.get("PATH", ""),
        "ANSIBLE_NOCOLOR": "1",
    }


class _Events:
    """Takes what ansible-runner tells of each task and host."""

    def __init__(self, say: Say, wanted: frozenset[str]) -> None:
        self._say = say
        self._wanted = wanted
        self.failed: dict[str, str] = {}
        self.changed: dict[str, int] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.tasks = 0
        self.last_line = ""

    def take(self, event: dict[str, Any]) -> bool:
        """One event; True lets ansible-runner keep it."""
        kind, data = event.get("event", ""), event.get("event_data") or {}
        lines = [line for line in str(event.get("stdout", "")).splitlines() if line.strip()]
        if lines:
            self.last_line = lines[0][:300]
        host, task = str(data.get("host", "")), str(data.get("task", ""))
        result = data.get("res") or {}
        if kind in _FAILED and host and not data.get("ignore_errors"):
            self.failed.setdefault(host, _reason(result, task))
        elif kind == "runner_on_ok" and host:
            self.tasks += 1
            self.failed.pop(host, None) if data.get("rescued") else None
            self.changed[host] = self.changed.get(host, 0) + bool(result.get("changed"))
            if task in self._wanted:
                self.results.setdefault(host, {})[task] = result
        elif kind == "playbook_on_task_start" and task:
            self._say(f"{data.get('play', '')}: {task}")
        return False


def _reason(result: dict[str, Any], task: str) -> str:
    """One line from a task's result; of a task that handles secrets only its name is told."""
    if "censored" in result:
        return f"the task {task!r} failed, and what it said may hold secrets; run the playbook by hand to see it"
    text = str(result.get("msg") or result.get("reason") or result.get("stderr") or result.get("exception") or "")
    return " ".join(text.split())[:600] or f"the task {task!r} failed and said nothing"
