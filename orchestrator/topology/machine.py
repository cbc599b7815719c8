"""A machine to operate: how to get there, which inventory names it stands for. Derived from Ansible's own variables.

Several inventory names may share one `ansible_host`: they are nodes of one machine, reached over one connection, set up
once. The first of them in inventory order is its `leader`, the host under which Ansible acts on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from orchestrator.topology.raw import RawHost


class Machine(Struct, frozen=True, kw_only=True):
    """`name` is its address in the inventory, or the host's name; `hosts` are inventory names, the leader first."""

    name: str
    address: str
    connection: str
    hosts: tuple[str, ...]
    groups: tuple[str, ...]
    user: str = ""
    port: int = 22
    key_file: str = ""
    ssh_args: str = ""
    become: bool = True
    listed: bool = True
    """Whether the inventory names it (still)."""

    @property
    def leader(self) -> str:
        """The inventory name that stands for the machine where it is acted on once."""
        return self.hosts[0]


def machine_of(host: RawHost) -> str:
    """The label of the machine a host is on."""
    return host.address or host.name


def machines_of(hosts: Iterable[RawHost]) -> tuple[Machine, ...]:
    """The machines of these hosts, in the order of their leaders."""
    grouped: dict[str, list[RawHost]] = {}
    for host in hosts:
        grouped.setdefault(machine_of(host), []).append(host)
    return tuple(_machine(name, members) for name, members in grouped.items())


def _machine(name: str, members: list[RawHost]) -> Machine:
    leader = members[0]
    login = leader.login
    port = login.get("ansible_port", "")
    ssh_args = " ".join(filter(None, (login.get("ansible_ssh_common_args"), login.get("ansible_ssh_extra_args"))))
    return Machine(
        name=name,
        address=leader.address or ("127.0.0.1" if leader.connection == "local" else leader.name),
        connection=leader.connection,
        hosts=tuple(host.name for host in members),
        groups=tuple(dict.fromkeys(group for host in members for group in host.groups)),
        user=login.get("ansible_user", ""),
        port=int(port) if port.isdigit() else 22,
        key_file=login.get("ansible_ssh_private_key_file") or login.get("ansible_private_key_file", ""),
        ssh_args=ssh_args,
        become=login.get("ansible_become", "true").lower() not in ("false", "no", "0"),
    )
