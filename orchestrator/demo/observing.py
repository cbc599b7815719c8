"""What the demo looks at itself instead of believing an index: state roots of all validators, copies of every slice."""

import time
from collections import Counter

from msgspec import Struct

from orchestrator.errors import EnvironmentFault
from stratos.client.errors import Refused
from stratos.client.observer import Observer
from stratos.client.possession import CopyCheck, challenge_copies
from stratos.wire.chainrpc import ChainStatus, GetChainStatus, GetHeader, HeaderAnswer
from stratos.wire.metalog import SliceSpec
from stratos.wire.metarpc import FileAnswer, FileList, GetFile, GetNetwork, ListFiles, Network

PAGE = 1000
PAUSE_SECONDS = 0.1


class Roots(Struct, frozen=True):
    """Whether every validator's own state is the one all agreed on; `height` is the highest compared."""

    equal: bool
    height: int


class Copies(Struct, frozen=True):
    """Copies proven by fresh challenges: the least of any slice, slices, challenges, and reasons of failed ones."""

    least: int
    slices: int
    challenged: int
    reasons: tuple[str, ...]


def compare_roots(observer: Observer, *, deadline_seconds: float = 60.0) -> Roots:
    """Hold each validator's state root at its own height against the header another validator has for that height."""
    deadline = time.monotonic() + deadline_seconds
    names = observer.validators
    if len(names) < 2:
        raise EnvironmentFault(
            "state roots cannot be compared with fewer than two validators; add one to the inventory"
        )
    height = 0
    for index, name in enumerate(names):
        status = observer.ask(name, GetChainStatus(), ChainStatus)
        other = names[(index + 1) % len(names)]
        while True:
            try:
                header = observer.ask(other, GetHeader(status.height), HeaderAnswer).header
                break
            except Refused as error:
                if time.monotonic() > deadline:
                    raise EnvironmentFault(
                        f"{other} does not reach height {status.height} of {name}: {error.sentence}; read its log"
                    ) from error
                time.sleep(PAUSE_SECONDS)
        height = max(height, status.height)
        if header.state_root != status.state_root:
            return Roots(False, status.height)
    return Roots(True, height)


def count_copies(observer: Observer, wallets: tuple[bytes, ...]) -> Copies:
    """Challenge every holder of every slice of these wallets' files."""
    holders = {holder.address: holder for holder in observer.ask_meta(GetNetwork(), Network).holders}
    specs: dict[bytes, tuple[SliceSpec, tuple[bytes, ...]]] = {}
    for wallet in wallets:
        for file_cid in _files(observer, wallet):
            answer = observer.ask_meta(GetFile(wallet, file_cid), FileAnswer)
            for placed in answer.slices:
                specs[placed.spec.digest] = (placed.spec, placed.holders)
    asked = [(spec, holders[address]) for spec, held in specs.values() for address in held if address in holders]
    found: list[CopyCheck] = challenge_copies(
        asked, genesis_hash=observer.genesis_hash, transport=observer.endpoints.slice_transport
    )
    proven = Counter(check.slice_digest for check in found if check.proven)
    reasons = tuple(sorted({check.reason for check in found if not check.proven}))
    return Copies(min((proven[digest] for digest in specs), default=0), len(specs), len(found), reasons)


def _files(observer: Observer, wallet: bytes) -> list[bytes]:
    found: list[bytes] = []
    while True:
        page = observer.ask_meta(ListFiles(wallet, found[-1] if found else b"", PAGE), FileList).files
        found += [file.file_cid for file in page]
        if len(page) < PAGE:
            return found
