"""Checking what a caller shows: session, placement and repair tokens, against the meta layer's own certificates.

A token is a record of the meta layer's state, its proof against a header, and that header's commit certificate. It is
believed only when more than two thirds of an authority set that we follow from genesis (`bft.light`) signed the
header; nobody has to be asked, and no meta node has to be up. Certificates are checked once per header, because
thousands of tokens rest on the same few.

A token ages: a session may have been closed since. Holders accept evidence up to `max_age_ms` old (one epoch, because a
closed session's receipts are taken for one epoch more) and ask for a fresh one otherwise.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from stratos.bft.blocks import header_hash
from stratos.bft.certificate import CertificateError, verify_commit
from stratos.bft.light import LightClient, LightClientError
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import node_address, verify_node
from stratos.state.authmap import StateProof, verify_state_proof
from stratos.wire.block import Header, Validator, ValidatorChange
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.genesis import Genesis
from stratos.wire.metalog import SESSION_OPEN, Allotment, Placement, RepairOrder, Session
from stratos.wire.transfer import MetaEvidence, PlacementToken, RepairToken, SessionToken

SESSION_ROOM = b"meta/session/"
ALLOTMENT_ROOM = b"meta/allot/"
PLACEMENT_ROOM = b"meta/placement/"
REPAIR_ROOM = b"meta/repair/"
FILE_ROOM = b"meta/file/"
KNOWN_HEADERS = 512
KNOWN_SETS = 4

FetchChanges = Callable[[int], Sequence[ValidatorChange]]
"""Authority set changes after a height, from any meta node (they are checked here)."""
R = TypeVar("R", bound=Struct)


class TokenError(Exception):
    """A token that proves nothing; `code` of protocol 8 (-3 signature or proof, -7 bad input)."""

    def __init__(self, sentence: str, code: int = -3) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


def session_key(session: bytes) -> bytes:
    """State key of a session."""
    return SESSION_ROOM + session


def allotment_key(session: bytes, holder: bytes) -> bytes:
    """State key of a holder's allotment."""
    return ALLOTMENT_ROOM + session + holder


def placement_key(upload: bytes, first_index: int) -> bytes:
    """State key of a placement."""
    return PLACEMENT_ROOM + upload + first_index.to_bytes(4, "big")


def repair_key(order: bytes) -> bytes:
    """State key of a repair order."""
    return REPAIR_ROOM + order


def file_key(wallet: bytes, file_cid: bytes) -> bytes:
    """State key of a wallet's file."""
    return FILE_ROOM + wallet + file_cid


def prove(header: Header, key: bytes, record: Struct, proof: bytes) -> None:
    """Check that `record` is under `key` in the state of a believed header; raises TokenError."""
    try:
        steps = decode(proof, StateProof)
    except WireError as error:
        raise TokenError(f"the proof is malformed: {error}", -7) from error
    if not verify_state_proof(header.state_root, key, encode(record), steps):
        raise TokenError(f"{type(record).__name__} is not in the state of meta block {header.height}; get a new token")


def genesis_authorities(genesis: Genesis) -> ValidatorSet:
    """The authority set of meta height 1."""
    keys = [node.node_public_key for node in genesis.meta_nodes]
    return ValidatorSet([Validator(node_address(key), key, 1) for key in keys])


class AuthorityTrust:
    """Headers of the meta layer that may be believed. Thread-safe."""

    def __init__(self, genesis: Genesis, genesis_hash: bytes, fetch_changes: FetchChanges) -> None:
        first = genesis_authorities(genesis)
        self._genesis_hash = genesis_hash
        self._fetch = fetch_changes
        self._lock = threading.Lock()
        self._light = LightClient(layer="meta", genesis_hash=genesis_hash, validators=first, verify=verify_node)
        # Headers just before a change stay believable: tokens made from them are still in use.
        self._sets: OrderedDict[bytes, ValidatorSet] = OrderedDict({first.hash: first})
        self._headers: OrderedDict[bytes, None] = OrderedDict()

    def check(self, evidence: MetaEvidence) -> Header:
        """The header of `evidence`, believed; raises TokenError."""
        header = evidence.header
        key = header_hash(header)
        with self._lock:
            if key in self._headers:
                return header
            known = self._sets.get(header.validators_hash)
        if known is None:
            known = self._follow(header)
        if header.layer != "meta" or header.genesis_hash != self._genesis_hash:
            raise TokenError("the evidence is of another network or layer; use this network's genesis file")
        try:
            verify_commit(
                key,
                evidence.commit,
                known,
                height=header.height,
                genesis_hash=self._genesis_hash,
                layer="meta",
                verify=verify_node,
            )
        except CertificateError as error:
            raise TokenError(f"the certificate of meta block {header.height} is not valid: {error}") from error
        with self._lock:
            self._headers[key] = None
            while len(self._headers) > KNOWN_HEADERS:
                self._headers.popitem(last=False)
        return header

    def current(self) -> ValidatorSet:
        """The newest authority set that meta nodes can prove; raises TokenError."""
        self._learn_changes()
        with self._lock:
            return self._light.validators

    def _follow(self, header: Header) -> ValidatorSet:
        self._learn_changes()
        with self._lock:
            known = self._sets.get(header.validators_hash)
        if known is None:
            raise TokenError(f"meta block {header.height} names authorities that nobody vouches for; get a new token")
        return known

    def _learn_changes(self) -> None:
        with self._lock:
            height = self._light.height
        changes = self._fetch(height)
        with self._lock:
            for change in changes:
                if change.header.height <= self._light.height:
                    continue
                try:
                    self._light.follow([change])
                except LightClientError as error:
                    raise TokenError(f"authority changes do not follow from genesis: {error}") from error
                self._sets[self._light.validators.hash] = self._light.validators
                while len(self._sets) > KNOWN_SETS:
                    self._sets.popitem(last=False)


class TokenVerifier:
    """What a holder (or a client, for its own safety) believes of tokens. Thread-safe."""

    def __init__(self, trust: AuthorityTrust, *, now_ms: Callable[[], int], max_age_ms: int) -> None:
        self._trust = trust
        self._now_ms = now_ms
        self._max_age_ms = max_age_ms

    @property
    def max_age_ms(self) -> int:
        """How long evidence is believed."""
        return self._max_age_ms

    def session(self, token: SessionToken, *, holder: bytes) -> tuple[Session, Allotment, int]:
        """The session, this holder's allotment and until when (ms) they may be relied on; raises TokenError."""
        if token.holder != holder:
            raise TokenError(f"the token is for holder {token.holder.hex()}; show each holder its own", -7)
        header = self._header(token.evidence)
        prove(header, session_key(token.session.id), token.session, token.session_proof)
        prove(header, allotment_key(token.session.id, holder), token.allotment, token.allotment_proof)
        self._live(token.session)
        until = min(header.time_ms + self._max_age_ms, token.session.expiry_ms)
        return token.session, token.allotment, until

    def placement(self, token: PlacementToken) -> tuple[Placement, Session]:
        """A placement and the session that pays for it; raises TokenError."""
        header = self._header(token.evidence)
        placement = token.placement
        if placement.session != token.session.id:
            raise TokenError("the placement was made for another session; show the session it names", -7)
        prove(header, placement_key(placement.upload, placement.first_index), placement, token.placement_proof)
        prove(header, session_key(token.session.id), token.session, token.session_proof)
        return placement, token.session

    def repair(self, token: RepairToken) -> RepairOrder:
        """A repair order in force; raises TokenError."""
        header = self._header(token.evidence)
        prove(header, repair_key(token.order.id), token.order, token.order_proof)
        if token.order.expiry_ms < self._now_ms():
            raise TokenError("the repair order has expired; ask the meta layer for open orders")
        return token.order

    def _header(self, evidence: MetaEvidence) -> Header:
        header = self._trust.check(evidence)
        age = self._now_ms() - header.time_ms
        if age > self._max_age_ms:
            raise TokenError(f"the token rests on a block {age} ms old, over {self._max_age_ms}; get a fresh token", -5)
        return header

    def _live(self, session: Session) -> None:
        if session.status != SESSION_OPEN:
            raise TokenError(f"session {session.id.hex()} is closed; open a new one")
        if session.expiry_ms < self._now_ms():
            raise TokenError(f"session {session.id.hex()} has expired; open a new one")
