"""Which key a payer signs its receipts with, proven against the meta layer's own headers.

A session names its key in the meta log's state. A meta node shows the record with a state proof and a signed header; the
header is checked by a light client that starts from the authorities of the genesis file. Sessions that are finished leave
the state after a while, so a key may no longer be provable; then there is none, never a guess.
"""

from typing import Protocol, TypeVar

from msgspec import Struct

from stratos.bft.light import LightClient, LightClientError
from stratos.bft.validator_set import ValidatorSet
from stratos.client.errors import Refused
from stratos.crypto.keys import node_address, verify_node
from stratos.state import StateProof, verify_state_proof
from stratos.wire.block import Validator, ValidatorChange
from stratos.wire.codec import decode, encode
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.metalog import Session
from stratos.wire.metarpc import (
    GetPlacement,
    GetSessionTokens,
    GetSetChanges,
    PlacementAnswer,
    SessionTokens,
    SetChanges,
)
from stratos.wire.receipts import DOWNLOAD, UPLOAD, ReceiptBody
from stratos.wire.transfer import MetaEvidence

R = TypeVar("R", bound=Struct)
LAYER = "meta"
_SESSION = b"meta/session/"
_PLACEMENT = b"meta/placement/"


class MetaNodes(Protocol):
    """Who answers about the meta log (`stratos.client.observer.Observer`)."""

    def ask_meta(self, request: Struct, kind: type[R]) -> R: ...


class PayerKeys:
    """Keys of payers by receipt; remembers what it has proven."""

    def __init__(self, genesis: Genesis, meta: MetaNodes) -> None:
        self._meta = meta
        self._known: dict[tuple[int, bytes], bytes | None] = {}
        authorities = ValidatorSet(
            Validator(node_address(node.node_public_key), node.node_public_key, 1) for node in genesis.meta_nodes
        )
        self._light = LightClient(
            layer=LAYER, genesis_hash=genesis_hash(genesis), validators=authorities, verify=verify_node
        )
        told = meta.ask_meta(GetSetChanges(0), SetChanges)
        self._light.follow(
            ValidatorChange(change.header, change.commit, change.next_validators) for change in told.changes
        )

    def key(self, body: ReceiptBody) -> bytes | None:
        """The payer's ed25519 key, None when it can no longer be proven."""
        name = (body.kind, body.task)
        if name not in self._known:
            try:
                self._known[name] = self._proven(body)
            except (Refused, LightClientError):
                self._known[name] = None
        return self._known[name]

    def _proven(self, body: ReceiptBody) -> bytes | None:
        if body.kind == DOWNLOAD:
            tokens = self._meta.ask_meta(GetSessionTokens(body.task, (body.earner,)), SessionTokens).tokens
            if not tokens or tokens[0].session.id != body.task:
                return None
            return self._session_key(tokens[0].session, tokens[0].session_proof, tokens[0].evidence)
        if body.kind == UPLOAD:
            token = self._meta.ask_meta(GetPlacement(body.task, 0), PlacementAnswer).token
            placement, root = token.placement, token.evidence.header.state_root
            name = _PLACEMENT + body.task + (0).to_bytes(4, "big")
            proof = decode(token.placement_proof, StateProof)
            if placement.upload != body.task or placement.session != token.session.id:
                return None
            if not verify_state_proof(root, name, encode(placement), proof):
                return None
            return self._session_key(token.session, token.session_proof, token.evidence)
        return None

    def _session_key(self, session: Session, raw_proof: bytes, evidence: MetaEvidence) -> bytes | None:
        self._light.check(evidence.header, evidence.commit)
        proof = decode(raw_proof, StateProof)
        shown = verify_state_proof(evidence.header.state_root, _SESSION + session.id, encode(session), proof)
        return session.key if shown else None
