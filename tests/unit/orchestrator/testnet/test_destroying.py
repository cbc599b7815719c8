"""A testnet on a machine that does not answer: kept until it does, or given up by word."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault, PartialFailure
from orchestrator.testnet.destroying import destroy_testnet
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.raising import Raising

INVENTORY = """
all:
  vars: {{stratos_testnet: gone, stratos_copies: 1, ansible_user: root, ansible_host: 127.0.0.1, ansible_port: {port}}}
  children:
    validators: {{hosts: {{v1: }}}}
    meta: {{hosts: {{m1: }}}}
    resource: {{hosts: {{r1: }}}}
"""


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_a_machine_that_never_answers_can_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    """Nothing was ever placed there, nobody can say so, and yet the folder is not for ever."""
    monkeypatch.setenv("STRATOS_TESTNETS", str(tmp_path / "testnets"))
    inventory = tmp_path / "gone.yml"
    inventory.write_text(INVENTORY.format(port=closed_port))
    with pytest.raises(EnvironmentFault, match="refuses connections"):
        Raising(inventory, began=0.0, say=lambda _text: None).run()
    folder = TestnetFolder(tmp_path / "testnets" / "gone")
    with pytest.raises(PartialFailure, match="--abandon"):
        destroy_testnet(folder)
    assert folder.exists
    report = destroy_testnet(folder, abandon=True)
    assert set(report.abandoned) == {"v1", "m1", "r1"}
    assert not folder.path.exists()
