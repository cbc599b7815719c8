"""The role that measures a machine: it fails the host with the sentence of each failed line, and changes nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLAY = """
- hosts: all
  gather_facts: false
  vars: {stratos_machine: box, stratos_testnet_name: net, stratos_preflight_quick: true}
  tasks:
    - block:
        - include_role: {name: stratos_preflight}
      always:
        - copy: {content: "{{ stratos_preflight_result | to_json }}", dest: "{{ stratos_bundles }}/result.json", mode: "0600"}
          check_mode: false
"""
INVENTORY = """
validators:
  hosts:
    v1: {ansible_connection: local, ansible_host: 127.0.0.1, ansible_python_interpreter: PYTHON}
stratos_machines: {hosts: {v1: }}
"""


def run_role(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """(exit code, result of the measuring task) of the role on this machine."""
    (folder / "play.yml").write_text(PLAY)
    (folder / "inventory.yml").write_text(INVENTORY.replace("PYTHON", sys.executable))
    node = {"name": "v1", "role": "validator", "ports": {"p2p": 46_656, "http": 46_657, "bulk": 0}}
    manifest = json.dumps({"version": 1, "testnet": "net", "nodes": [node]}).encode()
    with tarfile.open(folder / "box.tar", "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        tar.addfile(member, io.BytesIO(manifest))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "playbooks" / "ansible.cfg"),
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "inventory.yml")]
    extra = ["-e", f"stratos_bundles={folder}", "-e", f"stratos_preflight_folder={folder}"]
    run = subprocess.run(
        [*command, *extra, *arguments, str(folder / "play.yml")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    result = folder / "result.json"
    assert result.exists(), run.stdout + run.stderr
    found: dict[str, Any] = json.loads(result.read_text())
    result.unlink()
    return run.returncode, found


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without settings of the caller's Ansible."""
    for name in list(os.environ):
        if name.startswith("ANSIBLE_"):
            monkeypatch.delenv(name)


def test_a_machine_that_is_enough_passes_and_nothing_changes(tmp_path: Path, bare: None) -> None:
    """Every line has its verdict, the ports were reached, and neither a file nor a holder of ports is left."""
    code, result = run_role(tmp_path, "-e", "stratos_hardware_factor=0.001")
    lines = {line["check"]: line for line in result["lines"]}
    assert (code, result["changed"]) == (0, False)
    assert lines["port 46656"]["measured"] == "reached from the controller"
    assert {lines[check]["verdict"] for check in ("cores", "memory", "clock", "bandwidth up", "disk write")} == {"pass"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box.tar", "inventory.yml", "play.yml"]
    code, again = run_role(tmp_path, "-e", "stratos_hardware_factor=0.001", "--check")
    written = next(line for line in again["lines"] if line["check"] == "disk write")
    assert (code, written["verdict"], written["fix"]) == (0, "warn", "nothing is written in check mode")
    assert next(line for line in again["lines"] if line["check"] == "port 46656")["verdict"] == "pass"


def test_a_machine_that_is_not_enough_fails_with_the_sentences(tmp_path: Path, bare: None) -> None:
    """The task fails by name, value and fix; with the policy warn it tells the same and goes on."""
    (tmp_path / "vars.json").write_text(json.dumps({"stratos_hardware_factor": 1.0}))
    one = ["-e", f"@{tmp_path / 'vars.json'}"]
    code, result = run_role(tmp_path, *one)
    failed = [line for line in result["lines"] if line["verdict"] == "fail"]
    assert (code, result["failed"]) == (2, True)
    assert failed and all(f"v1: {line['check']}: {line['measured']}" in result["msg"] for line in failed)
    code, result = run_role(tmp_path, *one, "-e", "stratos_preflight=warn")
    assert code == 0
    assert any(text.startswith(f"v1: {failed[0]['check']}: ") for text in result["warnings"])
    code, result = run_role(tmp_path, *one, "-e", "stratos_preflight=off")
    assert (code, result.get("skipped")) == (0, True)
