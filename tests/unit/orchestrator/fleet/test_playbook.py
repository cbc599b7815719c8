"""Playbooks run through ansible-runner: what of a run stays on the disk, and what the next run knows of it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from orchestrator.fleet.playbook import run_playbook

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Said
      ansible.builtin.debug:
        msg: "{{ first | default('unset') }} {{ second | default('unset') }}"
"""


def run(folder: Path, **extra: str) -> str:
    """What the playbook says with these variables."""
    playbook, inventory = folder / "said.yml", folder / "hosts.yml"
    playbook.write_text(PLAYBOOK)
    inventory.write_text("all: {hosts: {localhost: }}")
    done = run_playbook(
        str(playbook),
        inventory=inventory,
        work=folder / "ansible",
        extra=extra,
        limit=["localhost"],
        wanted=("Said",),
        say=lambda _text: None,
    )
    return str(done.results["localhost"]["Said"]["msg"])


def test_a_run_leaves_neither_its_variables_nor_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run knows nothing of the first one's variables, and no file tells what the operator's shell held."""
    monkeypatch.setenv("OPERATORS_TOKEN", "hush-4711")
    assert run(tmp_path, first="one") == "one unset"
    assert run(tmp_path, second="two") == "unset two"
    files = [path for path in (tmp_path / "ansible").rglob("*") if path.is_file()]
    assert files  # what Ansible said is kept
    assert [path for path in files if b"hush-4711" in path.read_bytes()] == []
    assert stat.S_IMODE((tmp_path / "ansible").stat().st_mode) == 0o700
    assert json.dumps("one") not in "".join(path.read_text() for path in files)
