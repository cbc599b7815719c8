"""A key ring that the coordinator has put under Ansible's vault stays under it: read through it, written back through it.

`ansible-vault encrypt .testnets/NAME/keys/ring.json` is all a coordinator does; from then on every command that needs the
ring needs the password file that Ansible's own settings name (ANSIBLE_VAULT_PASSWORD_FILE), like the inventory's vault.
"""

# mypy: disable-error-code="no-untyped-call"
# (Ansible has no annotations.)
from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentFault


def decrypt(content: bytes, path: Path) -> bytes:
    """What a vaulted file holds; raises EnvironmentFault without the password, or with another one."""
    from ansible.errors import AnsibleError

    try:
        return bytes(_vault(path).decrypt(content))
    except AnsibleError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise EnvironmentFault(
            f"{path} is under a vault that cannot be opened ({reason}); name its password file in ANSIBLE_VAULT_PASSWORD_FILE"
        ) from error


def encrypt(content: bytes, path: Path) -> bytes:
    """The same bytes under the vault; raises EnvironmentFault without a password."""
    return bytes(_vault(path).encrypt(content))


def _vault(path: Path) -> Any:
    from ansible import constants
    from ansible.parsing.dataloader import DataLoader
    from ansible.parsing.vault import VaultLib, get_file_vault_secret

    named = constants.config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE")
    if not named:
        raise EnvironmentFault(
            f"{path} is under a vault; name its password file in ANSIBLE_VAULT_PASSWORD_FILE, as for the inventory's vault"
        )
    secret = get_file_vault_secret(filename=str(named), loader=DataLoader())
    secret.load()
    return VaultLib([("default", secret)])
