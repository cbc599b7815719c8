"""What an inventory says, before we judge it: hosts, their groups, their `stratos_*` variables and where each was set.

A plain record, so that rules are tested without Ansible and the loader's answer can be cached as JSON.
"""

from __future__ import annotations

from msgspec import Struct

Scalar = str | int | float | bool | None | list[object] | dict[str, object]


class RawValue(Struct, frozen=True):
    """A variable as merged by Ansible's precedence. `origin` is `all`, `group NAME` or `host NAME`."""

    value: Scalar
    origin: str


class RawHost(Struct, frozen=True):
    """One inventory host. `groups` holds every group it is in, without `all`, in Ansible's order."""

    name: str
    groups: tuple[str, ...]
    connection: str
    address: str
    variables: dict[str, RawValue]


class RawInventory(Struct, frozen=True):
    """`source` is the inventory path as given; `hosts` are in inventory order."""

    source: str
    hosts: tuple[RawHost, ...]
    groups: tuple[str, ...] = ()
    empty_variables: dict[str, str] = {}
    """`stratos_*` variables of groups without hosts: name -> origin. Setting one there is surely a mistake."""
