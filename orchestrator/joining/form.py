"""`inventories/participant.yml.j2` filled in: one host, its answers from options, nothing asked.

What is missing is found out: a name from the machine's own, an address as the machine's way to the network shows it. A file that
is there already is the participant's and is not touched.
"""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

import orchestrator
from orchestrator.errors import BadInput

TEMPLATE = "participant.yml.j2"
GROUPS = {"resource": "resource", "meta": "meta", "validator": "validators"}
_TARGET = re.compile(
    r"(?:([A-Za-z_][A-Za-z0-9._-]{0,31})@)?(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::([0-9]{1,5}))?"
)


class Answers(Struct, frozen=True, kw_only=True):
    """What the template is filled with. `host` is user@address over SSH, or empty for this machine."""

    network: str
    testnet: str
    network_folder: str
    runtime: str
    role: str
    name: str
    host: str
    address: str
    region: str
    tier: int
    disk: str
    deposit_wei: int = 0
    stake_wei: int = 0
    """Of a validator, which has no deposit."""
    ssh_key: str = ""
    hardware_factor: float = 1.0
    ready_seconds: int = 0


def fill(answers: Answers) -> str:
    """The inventory as text; raises BadInput for a host that cannot be meant."""
    user, host, port = _target(answers.host) if answers.host else ("", "", 0)
    templates = Environment(  # noqa: S701 - YAML, where every value goes through tojson
        loader=FileSystemLoader(Path(orchestrator.__file__).resolve().parent.parent / "inventories"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters["tojson"] = _quoted
    return templates.get_template(TEMPLATE).render(
        network=answers.network,
        testnet=answers.testnet,
        network_folder=answers.network_folder,
        runtime=answers.runtime,
        group=GROUPS[answers.role],
        name=answers.name,
        user_at_host=bool(answers.host),
        ansible_host=host,
        ansible_user=user,
        ansible_port=port,
        ssh_key=answers.ssh_key,
        address=answers.address,
        region=answers.region,
        tier=answers.tier,
        disk=answers.disk,
        deposit_stos=stos_text(answers.deposit_wei),
        stake_stos=stos_text(answers.stake_wei),
        hardware_factor=answers.hardware_factor,
        ready_seconds=answers.ready_seconds,
    )


def stos_text(amount_wei: int) -> str:
    """Exact decimal STOS."""
    whole, fraction = divmod(amount_wei, 10**18)
    digits = f"{fraction:018d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def default_name(role: str) -> str:
    """A node's name from this machine's, of the letters that names may have."""
    machine = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return f"{role}-{machine or 'node'}"[:63]


def own_address(toward: tuple[str, int]) -> str:
    """The address of this machine on its way to a host; nothing is sent."""
    host, port = toward
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((host, port))
            found: str = way.getsockname()[0]
    except OSError as error:
        raise BadInput(f"no way leads to {host} ({error.strerror or error}); give --address ADDRESS") from error
    return found


def host_of(target: str) -> str:
    """The address in user@address:port; raises BadInput."""
    return _target(target)[1]


def _target(text: str) -> tuple[str, str, int]:
    match = _TARGET.fullmatch(text)
    if match is None or (match[3] and not 1 <= int(match[3]) <= 65_535):
        raise BadInput(f"--host {text[:80]!r} is not USER@ADDRESS or USER@ADDRESS:PORT; without it the node runs here")
    user = match[1] or os.environ.get("USER", "root")
    return user, match[2].strip("[]"), int(match[3] or 0)


def _quoted(value: str) -> str:
    """A JSON string, which is a YAML string too; the filter that Jinja brings escapes for HTML."""
    return json.dumps(value)
