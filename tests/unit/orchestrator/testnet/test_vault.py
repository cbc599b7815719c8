"""A key ring under Ansible's vault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.plan.keys import KeyRing, complete_ring
from orchestrator.testnet.folder import VAULT_HEADER, TestnetFolder

BIN = Path(sys.executable).parent


@pytest.fixture
def vaulted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestnetFolder:
    """A folder whose ring the coordinator has encrypted with ansible-vault; the password file is named."""
    folder = TestnetFolder(tmp_path / "net")
    folder.ring_file.parent.mkdir(parents=True)
    folder.save_ring(complete_ring(KeyRing(), ["v1"], os.urandom))
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    subprocess.run([BIN / "ansible-vault", "encrypt", str(folder.ring_file)], check=True, capture_output=True)
    assert folder.ring_file.read_bytes().startswith(VAULT_HEADER)
    return folder


def test_a_vaulted_ring_is_read_and_stays_vaulted(vaulted: TestnetFolder) -> None:
    """New keys go under the same vault, mode 0600, and old ones do not change."""
    before = vaulted.ring()
    after = complete_ring(before, ["v1", "v2"], os.urandom)
    vaulted.save_ring(after)
    assert vaulted.ring_file.read_bytes().startswith(VAULT_HEADER)
    assert vaulted.ring_file.stat().st_mode & 0o777 == 0o600
    assert vaulted.ring() == after
    assert after.nodes["v1"] == before.nodes["v1"]


def test_without_its_password_nothing_is_made_anew(vaulted: TestnetFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that cannot be opened is an error that names file and fix; it is never taken for a missing one."""
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    with pytest.raises(EnvironmentFault, match=r"ring\.json is under a vault; name its password file"):
        vaulted.ring()


def test_another_password_does_not_open_it(vaulted: TestnetFolder, tmp_path: Path) -> None:
    """The wrong password is told as such."""
    (tmp_path / "password").write_text("other\n")
    with pytest.raises(EnvironmentFault, match="cannot be opened"):
        vaulted.ring()
