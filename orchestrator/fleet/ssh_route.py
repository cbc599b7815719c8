"""The way to a machine: an unopened connection that goes as the inventory's SSH options say, and trusts the keys it may.

fabric would accept any host key and knows only its own configuration; here the known-hosts files and the strictness of ssh hold for the machine and for
every jump host before it. What can be refused without a connection (a key that is missing or none) is refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.fleet.failures import WRONG_KEY, Failure, HostFailed, Way
from orchestrator.fleet.ssh_options import SshOptions, parse_jump, parse_ssh_options

if TYPE_CHECKING:
    import fabric


class SshTarget(Protocol):
    """What of a machine decides how it is reached; `topology.Machine` is one."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def connection(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def key_file(self) -> str: ...
    @property
    def ssh_args(self) -> str: ...
    @property
    def become(self) -> bool: ...


def label(machine: SshTarget) -> str:
    """The name a reader knows the machine by: the first of its inventory names."""
    return str(getattr(machine, "leader", machine.name))


class UnknownHostKey(Exception):
    """The host's key is in none of the known-hosts files."""


class RefuseUnknown:
    """A paramiko policy: a key that is not known ends the connection."""

    def missing_host_key(self, client: object, hostname: str, key: object) -> None:
        raise UnknownHostKey(hostname)


def prepare(machine: SshTarget, timeout: float) -> tuple[fabric.Connection, Way]:
    """An unopened connection with the inventory's options, and the way it will go; raises HostFailed, BadInput."""
    import logging

    import fabric

    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its tracebacks are told as sentences here
    options = parse_ssh_options(machine.ssh_args, host=label(machine))
    keys = tuple(
        str(Path(name).expanduser()) for name in dict.fromkeys((machine.key_file, *options.identities)) if name
    )
    config = fabric.Config(
        runtime_ssh_path=str(Path(options.config_file).expanduser()) if options.config_file else None
    )
    patience = options.connect_seconds or timeout
    from_config: dict[str, Any] = config.base_ssh_config.lookup(machine.address)
    connection = fabric.Connection(
        machine.address,
        user=machine.user or options.user or None,
        port=options.port or None if machine.port in (0, 22) else machine.port,  # 22 is also: not said
        config=config,
        gateway=_gateway(machine, options, config, keys, patience),
        connect_timeout=patience,
        connect_kwargs=_kwargs(keys, options, patience),
        inline_ssh_env=True,
    )
    known = options.known_hosts or tuple(str(from_config.get("userknownhostsfile", "")).split())
    strict = options.strict
    if strict == "yes" and "stricthostkeychecking" not in machine.ssh_args.lower():
        strict = {"no": "no", "accept-new": "accept-new"}.get(str(from_config.get("stricthostkeychecking")), "yes")
    files = _check_host_keys(connection, known, strict)
    behind = connection.gateway
    while isinstance(behind, fabric.Connection):  # also those that the ssh configuration names
        _check_host_keys(behind, options.known_hosts, options.strict, also_default=True)
        behind = behind.gateway
    way = Way(
        machine=label(machine),
        address=connection.host,
        port=int(connection.port),
        user=connection.user,
        keys=keys,
        known_hosts=files,
        seconds=patience,
    )
    for name in keys:
        _need_key(machine, name)
    return connection, way


def _need_key(machine: SshTarget, name: str) -> None:
    """Refuse a key file that is missing or none; paramiko would tell of it only in riddles. Raises HostFailed."""
    import paramiko

    try:
        paramiko.PKey.from_path(name)
    except (TypeError, paramiko.PasswordRequiredException):
        return  # locked by a passphrase; the agent may hold it
    except FileNotFoundError:
        reason = f"there is no key {name}"
    except OSError as error:
        reason = f"the key {name} cannot be read ({error.strerror})"
    except (ValueError, paramiko.SSHException, paramiko.UnknownKeyType):
        reason = f"{name} is no private key"
    else:
        return
    fix = f"correct ansible_ssh_private_key_file of {label(machine)}"
    raise HostFailed(Failure(machine=label(machine), kind=WRONG_KEY, reason=reason, fix=fix))


def _kwargs(keys: tuple[str, ...], options: SshOptions, patience: float) -> dict[str, object]:
    return {
        "key_filename": list(keys),
        "look_for_keys": not keys,
        "allow_agent": not options.identities_only,
        "banner_timeout": patience,
        "auth_timeout": patience,
        "channel_timeout": patience,
    }


def _gateway(
    machine: SshTarget, options: SshOptions, config: fabric.Config, keys: tuple[str, ...], patience: float
) -> fabric.Connection | str | None:
    """The chain of jump hosts, or the proxy command; None lets the ssh configuration decide."""
    import fabric

    if options.proxy_command:
        user = machine.user or options.user or str(config.get("user", ""))
        return options.proxy_command.replace("%r", user).replace("%n", machine.address)
    if not options.jumps:
        return None
    chain: fabric.Connection | None = None
    for text in options.jumps:
        jump = parse_jump(text, host=label(machine))
        chain = fabric.Connection(
            jump.host,
            user=jump.user or None,
            port=jump.port or None,
            config=config,
            gateway=chain,
            connect_timeout=patience,
            connect_kwargs=_kwargs(keys, options, patience),
        )
    return chain


def _check_host_keys(
    connection: fabric.Connection, files: tuple[str, ...], strict: str, *, also_default: bool = False
) -> tuple[str, ...]:
    """Make the connection trust exactly these known_hosts files (default: ssh's own); the files, the one to add to first."""
    import paramiko

    named = [Path(name).expanduser() for name in files if name != "none"]
    standard = [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]
    used = named + (standard if also_default else []) if files else standard
    connection.client.set_missing_host_key_policy(paramiko.AutoAddPolicy() if strict != "yes" else RefuseUnknown())
    for path in used[1:]:
        if path.is_file():
            connection.client.load_system_host_keys(str(path))
    if used and used[0].is_file():  # last: new keys of accept-new go where load_host_keys read
        connection.client.load_host_keys(str(used[0]))
    return tuple(str(path) for path in used)
