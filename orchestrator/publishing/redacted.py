"""An inventory without its secrets: who is in it in which role, and the settings that anybody may know.

What may be said is a list, and everything else is left out: a new variable is private until somebody puts it on the list. How
machines are reached (addresses of Ansible, users, ports, keys, labels of machines) is never on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from orchestrator.topology.raw import RawHost, RawInventory, Scalar
from orchestrator.topology.variables import ROLES, VARIABLES

PUBLIC_OF_NODES = (
    "stratos_region",
    "stratos_tier",
    "stratos_commission_bp",
    "stratos_deposit_stos",
    "stratos_stake_stos",
)
PUBLIC_OF_TESTNET = ("stratos_slice_transport", *(row.name for row in VARIABLES.values() if row.target))
"""Beside how slices travel, all that the genesis file says anyway."""


class PublicNode(Struct, frozen=True, kw_only=True):
    """One node, by its name in the register."""

    name: str
    role: str
    settings: dict[str, Scalar] = {}


class PublicInventory(Struct, frozen=True, kw_only=True):
    """What is published of an inventory."""

    network: str
    settings: dict[str, Scalar]
    nodes: tuple[PublicNode, ...]


def redact(raw: RawInventory, *, network: str, role_of: Callable[[RawHost], str]) -> PublicInventory:
    """The public part; `role_of` names a host's role, empty for those that are no node."""
    nodes = tuple(
        PublicNode(name=host.name, role=role_of(host), settings=_settings(host, PUBLIC_OF_NODES))
        for host in raw.hosts
        if role_of(host)
    )
    shared: dict[str, Scalar] = {}
    for host in raw.hosts:
        if role_of(host):
            shared |= _settings(host, PUBLIC_OF_TESTNET)
    return PublicInventory(network=network, settings=shared, nodes=nodes)


def _settings(host: RawHost, names: tuple[str, ...]) -> dict[str, Scalar]:
    return _plain({name: host.variables[name].value for name in names if name in host.variables})


def _plain(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Only what the table of variables allows: a text that is no value of its variable is not repeated."""
    return {name: value for name, value in values.items() if VARIABLES[name].kind.parse(value) is not None}


def role_of(host: RawHost) -> str:
    """validator, meta, resource, or empty."""
    from orchestrator.topology.topology import ROLE_OF_GROUP

    return next((ROLE_OF_GROUP[group] for group in ROLES if group in host.groups), "")
