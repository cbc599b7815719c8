"""What an inventory says, before we judge it: hosts, their groups, their `stratos_*` variables and where each was set.

A plain record, so that rules are tested without Ansible and the loader's answer can be cached as JSON.
"""

from __future__ import annotations

from msgspec import Struct

LOGIN_VARIABLES = (
    "ansible_user",
    "ansible_port",
    "ansible_ssh_private_key_file",
    "ansible_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_become",
)
"""What is needed to reach a host again without Ansible; passwords are not among them, so they are never written down."""

Scalar = str | int | float | bool | None | list[object] | dict[str, object]


class RawValue(Struct, frozen=True):
    """A variable as merged by Ansible's precedence. `origin` is `all`, `group NAME` or `host NAME`."""

    value: Scalar
    origin: str


class RawHost(Struct, frozen=True):
    """One inventory host. `groups` holds every group it is in, without `all`, in Ansible's order; `login` how Ansible
    gets there (LOGIN_VARIABLES), never a password."""

    name: str
    groups: tuple[str, ...]
    connection: str
    address: str
    variables: dict[str, RawValue]
    login: dict[str, str] = {}


class RawInventory(Struct, frozen=True):
    """`source` is the inventory path as given; `hosts` are in inventory order."""

    source: str
    hosts: tuple[RawHost, ...]
    groups: tuple[str, ...] = ()
    empty_variables: dict[str, str] = {}
    """`stratos_*` variables of groups without hosts: name -> origin. Setting one there is surely a mistake."""
