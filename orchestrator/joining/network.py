"""What a ticket leads to: the network's genesis and entry points, fetched from whoever answers and believed from nobody.

The genesis counts when it has the ticket's hash. Entry points are those the coordinator signed: the ticket's seeds, and the
published files when the ticket names them and they are reachable. Published files whose signature, check sum or network
is not right are refused, not skipped: somebody changed them.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar

import msgspec

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.plan.plan import OutsideNetwork
from orchestrator.publishing.sums import Sums, check_sums
from stratos.client.records import Endpoints, MetaEndpoint, ValidatorEndpoint
from stratos.wire.genesis import GENESIS_VERSION, Genesis, genesis_hash
from stratos.wire.ticket import Ticket

MAX_BYTES = 64 * 1024 * 1024
FETCH_SECONDS = 10.0

T = TypeVar("T")
Fetch = Callable[[str], bytes]
Say = Callable[[str], None]


class Unreachable(EnvironmentFault):
    """A URL did not give its bytes."""


class _Genesis(msgspec.Struct):
    genesis: Genesis


class _Status(msgspec.Struct):
    genesis_hash: str = ""


def fetch(url: str) -> bytes:
    """The bytes at an http or https URL, at most MAX_BYTES; raises Unreachable."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - tickets allow http and https only
            data: bytes = answer.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Unreachable(f"{url} cannot be read: {reason}") from error
    if len(data) > MAX_BYTES:
        raise Unreachable(f"{url} is longer than {MAX_BYTES} bytes")
    return data


def find_network(ticket: Ticket, *, say: Say, get: Fetch = fetch) -> OutsideNetwork:
    """Genesis and entry points of a ticket's network; raises BadInput when somebody serves another one, EnvironmentFault
    when nobody answers."""
    body = ticket.body
    published = _published(ticket, say=say, get=get)
    genesis = published[0] if published is not None else _genesis_of_seeds(ticket, get=get)
    _need_meta(ticket, get=get)
    seeds = Endpoints(
        validators=tuple(
            ValidatorEndpoint(name=one.name, http=f"http://{one.rest}", p2p=one.p2p, public_key=one.public_key.hex())
            for one in body.validators
        ),
        meta=tuple(
            MetaEndpoint(name=one.name, rpc=one.rpc, public_key=one.public_key.hex(), http=f"http://{one.http}")
            for one in body.meta
        ),
        slice_transport=body.slice_transport,
    )
    return OutsideNetwork(genesis, _merged(published[1], seeds) if published is not None else seeds)


def _genesis_of_seeds(ticket: Ticket, *, get: Fetch) -> Genesis:
    """The first genesis with the ticket's hash that a validator gives."""
    silent: list[str] = []
    wrong: list[str] = []
    for seed in ticket.body.validators:
        try:
            genesis = _decoded(get(f"http://{seed.rest}/stratos/genesis"), _Genesis).genesis
        except EnvironmentFault as error:
            silent.append(str(error))
            continue
        except BadInput as error:
            wrong.append(f"{seed.name} ({seed.rest}): {error}")
            continue
        problem = _other(genesis, ticket)
        if not problem:
            return genesis
        wrong.append(f"{seed.name} ({seed.rest}) {problem}")
    if wrong:
        raise BadInput(f"the ticket's network is not there: {'; '.join(wrong)}; ask the coordinator for a new ticket")
    raise EnvironmentFault(
        f"no validator of the ticket answers: {'; '.join(silent)}; look at this machine's way out, or ask the coordinator"
    )


def _other(genesis: Genesis, ticket: Ticket) -> str:
    """What is wrong with a genesis; empty when it is the ticket's."""
    if genesis.version != GENESIS_VERSION:
        return f"has genesis version {genesis.version}, this program knows {GENESIS_VERSION}; use the matching program"
    found = genesis_hash(genesis)
    if found != ticket.body.genesis_hash:
        return f"serves network {genesis.network} with genesis {found.hex()}, not {ticket.body.genesis_hash.hex()}"
    return ""


def _need_meta(ticket: Ticket, *, get: Fetch) -> None:
    """At least one meta node answers for this network."""
    problems: list[str] = []
    for seed in ticket.body.meta:
        try:
            status = _decoded(get(f"http://{seed.http}/status"), _Status)
        except (EnvironmentFault, BadInput) as error:
            problems.append(str(error))
            continue
        if status.genesis_hash == ticket.body.genesis_hash.hex():
            return
        problems.append(f"{seed.name} ({seed.http}) is of another network")
    raise EnvironmentFault(
        f"no meta node of the ticket answers: {'; '.join(problems)}; look at this machine's way out, or ask the coordinator"
    )


def _published(ticket: Ticket, *, say: Say, get: Fetch) -> tuple[Genesis, Endpoints] | None:
    """Genesis and endpoints from the published files; None when the ticket names none or they cannot be reached."""
    base = ticket.body.public_files.rstrip("/")
    if not base:
        return None
    try:
        files = {name: get(f"{base}/{name}") for name in ("checksums.json", "genesis.json", "endpoints.json")}
    except EnvironmentFault as error:
        say(f"the published files are out of reach ({error}); asking the seeds")
        return None
    sums = _decoded(files.pop("checksums.json"), Sums)
    problem = check_sums(sums, files, coordinator=ticket.body.coordinator, genesis_hash=ticket.body.genesis_hash)
    if problem:
        raise BadInput(f"the published files at {base} were tampered with: {problem}; tell the coordinator")
    genesis = _decoded(files["genesis.json"], Genesis)
    problem = _other(genesis, ticket)
    if problem:
        raise BadInput(f"{base}/genesis.json {problem}; tell the coordinator")
    return genesis, _decoded(files["endpoints.json"], Endpoints)


def _merged(published: Endpoints, seeds: Endpoints) -> Endpoints:
    """All that is published, and seeds that are not; what answers for resource nodes is the meta layer's to say."""
    validators = {one.public_key: one for one in (*seeds.validators, *published.validators)}
    meta = {one.public_key: one for one in (*seeds.meta, *published.meta)}
    return Endpoints(
        validators=tuple(validators.values()), meta=tuple(meta.values()), slice_transport=published.slice_transport
    )


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the answer is not what it should be ({error})") from error
