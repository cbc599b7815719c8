"""Reads an inventory with Ansible's own loader, so host ranges, group_vars, host_vars, vault and plugins all work.

The loader costs 300-500 ms of imports, so its answer is cached by content: the key covers the inventory, every file
under its group_vars and host_vars, ansible.cfg, the ANSIBLE_* environment and the two versions. Only static text is
cached: an executable or plugin inventory, a vault value or a template is read anew each time, because its answer may
depend on more than those bytes, and because a decrypted secret must not land in a cache file.
"""

# mypy: disable-error-code="no-untyped-call"
# (Ansible has no annotations; this file is the only one that calls it.)
from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from orchestrator.topology.problems import InvalidInventory
from orchestrator.topology.raw import LOGIN_VARIABLES, RawHost, RawInventory, RawValue, Scalar
from orchestrator.topology.variables import PREFIX

if TYPE_CHECKING:
    from ansible.inventory.group import Group
    from ansible.inventory.host import Host
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

CACHE_VERSION = "2"
CACHE_FOLDER = ".cache"
"""Where the tool keeps what can be made anew, beside the testnets' folders."""
_DYNAMIC = (b"$ANSIBLE_VAULT", b"!vault", b"!unsafe", b"{{", b"{%", b"plugin:")
_STATIC_SUFFIXES = (".yml", ".yaml", ".ini", ".json", "")


def load_inventory(source: Path, *, cache: Path | None = None) -> RawInventory:
    """The inventory at `source`; raises InvalidInventory when Ansible cannot read it."""
    if not source.exists():
        raise InvalidInventory(
            f"there is no inventory {source}; name one with -i, for example -i inventories/local.yml"
        )
    digest = _content_digest(source) if cache is not None else None
    entry = cache / f"inventory-{digest}.json" if cache is not None and digest is not None else None
    if entry is not None:
        try:
            return msgspec.json.decode(entry.read_bytes(), type=RawInventory)
        except (OSError, msgspec.DecodeError):
            pass  # no entry, or one torn by a full disk: read the inventory itself
    raw = _load_with_ansible(source)
    if entry is not None:
        _store(entry, raw)
    return raw


def _store(entry: Path, raw: RawInventory) -> None:
    temporary = entry.with_suffix(f".{os.getpid()}")
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(raw))
        os.replace(temporary, entry)
    except (OSError, UnicodeEncodeError):  # or text that was no UTF-8 in a file of variables
        temporary.unlink(missing_ok=True)  # the cache is a convenience; a read-only folder is no error


def _content_digest(source: Path) -> str | None:
    """The digest of all the bytes the answer depends on, or None when it may depend on something else."""
    if source.is_dir() or source.suffix not in _STATIC_SUFFIXES or os.access(source, os.X_OK):
        return None
    digest = hashlib.blake2b(digest_size=20)
    settings = sorted(f"{key}={value}" for key, value in os.environ.items() if key.startswith("ANSIBLE_"))
    digest.update(repr((CACHE_VERSION, str(source), settings)).encode())
    for path in _files(source):
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if any(mark in content for mark in _DYNAMIC):
            return None
        digest.update(repr((str(path), len(content))).encode() + content)
    return digest.hexdigest()


def _files(source: Path) -> Iterator[Path]:
    yield source
    for folder in (source.parent / "group_vars", source.parent / "host_vars"):
        if folder.is_dir():
            yield from sorted(path for path in folder.rglob("*") if path.is_file())
    for config in (Path("ansible.cfg"), Path.home() / ".ansible.cfg", Path("/etc/ansible/ansible.cfg")):
        if config.is_file():
            yield config


def _load_with_ansible(source: Path) -> RawInventory:
    os.environ.setdefault("ANSIBLE_INVENTORY_UNPARSED_FAILED", "true")
    os.environ.setdefault("ANSIBLE_LOCALHOST_WARNING", "false")
    os.environ.setdefault("ANSIBLE_INVENTORY_UNPARSED_WARNING", "false")
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    _need_text(source)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            loader = DataLoader()
            loader.set_basedir(str(source.resolve().parent))
            _unlock_vault(loader)
            manager = InventoryManager(loader=loader, sources=[str(source)])
            raw = _collect(source, loader, manager)
    except AnsibleError as error:
        raise InvalidInventory(
            f"{source} is not a readable Ansible inventory: {_reason(source, said.getvalue(), error)}"
        ) from error
    sys.stderr.write(said.getvalue())  # warnings about an inventory that can be used after all
    return raw


def become_password(source: Path, host: str) -> str:
    """`ansible_become_password` of one host, decrypted, or nothing; read anew each time and never cached in a file."""
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.manager import VariableManager

    with contextlib.redirect_stderr(io.StringIO()):
        loader = DataLoader()
        loader.set_basedir(str(source.resolve().parent))
        _unlock_vault(loader)
        manager = InventoryManager(loader=loader, sources=[str(source)])
        found = manager.get_host(host)
        if found is None:
            return ""
        merged = VariableManager(loader=loader, inventory=manager).get_vars(host=found)
        for name in ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"):
            if name in merged:
                return str(_resolve(loader, merged, [merged[name]])[0] or "")
    return ""


def _need_text(source: Path) -> None:
    """Refuse a file that is no text, of which Ansible makes host names."""
    if source.is_file() and not os.access(source, os.X_OK):
        try:
            source.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise InvalidInventory(f"{source} is not UTF-8 text (byte {error.start}); name an inventory") from error


def _reason(source: Path, said: str, error: Exception) -> str:
    """What one parser has against the file: Ansible tries each in turn, and says all that each of them found."""
    parser = "yaml" if source.suffix in (".yml", ".yaml", ".json") else "ini"
    found = re.search(rf"Failed to parse inventory with '{parser}' plugin: (?:Failed to parse inventory: )?(.+)", said)
    if found is None:
        return " ".join(str(error).split())
    where = re.search(rf"Origin: {re.escape(str(source.resolve()))}:([0-9]+):([0-9]+)", said)
    return found[1].rstrip(".") + (f" (line {where[1]}, column {where[2]})" if where else "") + "; correct the file"


def _unlock_vault(loader: DataLoader) -> None:
    """Give the loader the vault password file that Ansible's own settings name."""
    from ansible import constants

    password_file = constants.config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE")
    if password_file:
        from ansible.parsing.vault import VaultSecretsContext, get_file_vault_secret

        secret = get_file_vault_secret(filename=str(password_file), loader=loader)
        secret.load()
        secrets = [("default", secret)]
        loader.set_vault_secrets(secrets)
        if VaultSecretsContext.current(optional=True) is None:  # single values are decrypted through it, when looked at
            VaultSecretsContext.initialize(VaultSecretsContext(secrets))


def _collect(source: Path, loader: DataLoader, manager: InventoryManager) -> RawInventory:
    from ansible.inventory.helpers import sort_groups
    from ansible.vars.plugins import get_vars_from_inventory_sources

    def variables_of(entity: Group | Host) -> dict[str, Any]:
        files = get_vars_from_inventory_sources(loader, manager._sources, [entity], "all")
        return {**entity.vars, **files}

    levels = {name: variables_of(group) for name, group in manager.groups.items()}
    hosts = []
    for host in manager.get_hosts():
        merged: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for group in sort_groups(host.get_groups()):
            name = str(group.name)
            merged.update(levels[name])
            origin.update(dict.fromkeys(levels[name], "all" if name == "all" else f"group {name}"))
        own = variables_of(host)
        merged.update(own)
        origin.update(dict.fromkeys(own, f"host {host.name}"))
        ours = {key: merged[key] for key in merged if key.startswith(PREFIX)}
        connection = merged.get("ansible_connection", "ssh")
        address = merged.get("ansible_host", "")
        login = {key: merged[key] for key in LOGIN_VARIABLES if key in merged}
        wanted = [connection, address, *login.values(), *ours.values()]
        plain = _resolve(loader, {**merged, "inventory_hostname": host.name}, wanted)
        ways, values = plain[2 : 2 + len(login)], plain[2 + len(login) :]
        hosts.append(
            RawHost(
                str(host.name),
                tuple(str(group.name) for group in sort_groups(host.get_groups()) if group.name != "all"),
                str(plain[0]),
                str(plain[1]),
                {str(key): RawValue(value, origin[key]) for key, value in zip(ours, values, strict=True)},
                {str(key): str(value) for key, value in zip(login, ways, strict=True) if value is not None},
            )
        )
    empty = {
        str(key): f"group {name}"
        for name, group in manager.groups.items()
        if not group.get_hosts() and name not in ("all", "ungrouped")
        for key in levels[name]
        if key.startswith(PREFIX)
    }
    names = tuple(sorted(str(name) for name in manager.groups if name not in ("all", "ungrouped")))
    return RawInventory(str(source), tuple(hosts), names, empty)


def _resolve(loader: DataLoader, variables: dict[str, Any], values: list[Any]) -> list[Scalar]:
    """Plain Python values: templates rendered, vault text decrypted, Ansible's tagged types taken off."""
    if any(isinstance(value, str) and ("{{" in value or "{%" in value) for value in values):
        from ansible.template import Templar

        templar = Templar(loader=loader, variables=variables)
        values = [templar.template(value) for value in values]
    return [_plain(value) for value in values]


def _plain(value: Any) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
