"""A user's access to the value layer over its REST surface: read, sign and submit, wait for the block.

Any validator may be asked; the next one is tried when one does not answer. Submitting the same signed bytes to several
is harmless, so after a timeout the transaction is looked for before it is given up: an answer is `committed`,
`refused` with the chain's own sentence, or unknown with the hash to look for.
"""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from blake3 import blake3
from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault, PartialFailure
from orchestrator.node_status import Answer, request
from stratos.client.records import Endpoints
from stratos.crypto.keys import WalletKey
from stratos.ledger.signing import sign_tx
from stratos.wire.block import SignedHeader, ValidatorChange
from stratos.wire.chainrpc import ProofAnswer
from stratos.wire.codec import decode, encode
from stratos.wire.txs import Message, Tx

ANSWER_SECONDS = 5.0
COMMIT_SECONDS = 30.0
LONGEST_WAIT_MS = 1_000
ROLE_PATHS = {"resource": "resource_nodes", "meta": "meta_nodes"}


class ChainUnreachable(EnvironmentFault):
    """No validator answered."""


class NotThere(BadInput):
    """The chain has no such thing."""


class Refused(BadInput):
    """The chain refused a transaction; `code` is its machine-readable reason."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


class AccountView(Struct, frozen=True, kw_only=True):
    """An account: `sequence` is what its next transaction carries."""

    balance_wei: int
    sequence: int
    height: int


class Committed(Struct, frozen=True, kw_only=True):
    """A transaction in a block. `code` is ok, or why its effects were refused (its fee is paid all the same)."""

    hash: str
    height: int
    code: str
    error: str
    events: tuple[dict[str, Any], ...]
    tx: dict[str, Any]


class Registered(Struct, frozen=True, kw_only=True):
    """A node of the chain's register."""

    node: str
    role: str
    name: str
    owner: str
    state: str
    active: bool
    network_address: str
    deposit_wei: int = 0
    stake_wei: int = 0
    """Of a validator: all that is staked with it."""


class ChainApi:
    """REST of the validators in `endpoints`."""

    def __init__(self, endpoints: Endpoints, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
        self._bases = [entry.http for entry in endpoints.validators]
        self._timeout = timeout_seconds

    def get(self, path: str, *, timeout_seconds: float | None = None) -> Any:
        """The JSON answer of the first validator that gives one; raises NotThere, BadInput or ChainUnreachable."""
        return _document(self._ask("GET", path, timeout_seconds=timeout_seconds))

    def account(self, address: str) -> AccountView:
        """Balance and next sequence of a wallet `st1...`."""
        found = self.get(f"/stratos/account/{address}")
        return AccountView(
            balance_wei=int(found["balance_wei"]), sequence=int(found["next_sequence"]), height=int(found["height"])
        )

    def genesis_hash(self) -> bytes:
        """What the network says its genesis hash is."""
        return bytes.fromhex(self.get("/stratos/genesis")["hash"])

    def send(self, key: WalletKey, message: Message, *, genesis_hash: bytes, memo: str = "") -> Committed:
        """Sign, submit and wait for the block; raises Refused when it was not admitted, PartialFailure when unknown."""
        tx = sign_tx(key, message, sequence=self.account(key.text).sequence, genesis_hash=genesis_hash, memo=memo)
        return self.submit(tx)

    def submit(self, tx: Tx, *, wait_seconds: float = COMMIT_SECONDS) -> Committed:
        """Submit a signed transaction and wait for its block."""
        raw = encode(tx)
        tx_hash = blake3(raw).hexdigest()
        body = msgspec.json.encode({"tx": base64.b64encode(raw).decode()})
        answer = self._ask("POST", "/stratos/tx", body=body)
        if answer.status not in (200, 409):  # 409: it waits already, or is in a block already
            code, sentence = _error_of(answer)
            raise Refused(sentence, code)
        deadline = time.monotonic() + wait_seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise PartialFailure(
                    f"transaction {tx_hash} is admitted but in no block after {wait_seconds:g} s; "
                    f"look for it with `stratosctl tx show {tx_hash}`"
                )
            try:
                return self.transaction(tx_hash, wait_seconds=min(left, LONGEST_WAIT_MS / 1000))
            except NotThere:
                continue  # it waits for its block

    def transaction(self, tx_hash: str, *, wait_seconds: float = 0.0) -> Committed:
        """A committed transaction; raises NotThere when it is in no block yet."""
        path = f"/stratos/tx/{quote(tx_hash, safe='')}?wait_ms={int(wait_seconds * 1000)}"
        found = self.get(path, timeout_seconds=wait_seconds + self._timeout)
        result = found["result"]
        return Committed(
            hash=found["hash"],
            height=int(found["height"]),
            code=result["code"],
            error=result["error"],
            events=tuple(result["events"]),
            tx=found["tx"],
        )

    def registered(self) -> list[Registered]:
        """Every resource and meta node of the register, and every validator."""
        found = [
            _registered(node, role)
            for role, path in ROLE_PATHS.items()
            for node in self.get(f"/stratos/register/v1/{path}")["nodes"]
        ]
        found += [_registered_validator(one) for one in self.get("/stratos/staking/v1/validators")["validators"]]
        return found

    def registered_node(self, node: str, role: str) -> Registered | None:
        """One node of the register by its stsds1... address, or None."""
        path = (
            f"/stratos/staking/v1/validator/{node}"
            if role == "validator"
            else f"/stratos/register/v1/{role}_node/{node}"
        )
        try:
            found = self.get(path)
        except NotThere:
            return None
        if role == "validator":
            return _registered_validator(found["validator"])
        return _registered(found["node"], role)

    def proof(self, key_text: str) -> ProofAnswer:
        """A state key with its proof, unchecked."""
        found = self.get(f"/stratos/proof/{quote(key_text, safe='/:')}")
        return decode(base64.b64decode(found["encoded"]), ProofAnswer)

    def header(self, height: int) -> SignedHeader:
        """A header with its certificate, unchecked; 0 is the newest."""
        return decode(base64.b64decode(self.get(f"/stratos/header/{height}")["encoded"]), SignedHeader)

    def validator_changes(self) -> list[ValidatorChange]:
        """Every change of the validator set, unchecked."""
        found = self.get("/stratos/validator_changes?from=1")["changes"]
        return [decode(base64.b64decode(change["encoded"]), ValidatorChange) for change in found]

    def _ask(
        self, method: str, path: str, *, body: bytes | None = None, timeout_seconds: float | None = None
    ) -> Answer:
        for base in self._bases:
            parts = urlsplit(base)
            answer = request(
                parts.hostname or "",
                parts.port or 80,
                path,
                method=method,
                body=body,
                timeout_seconds=timeout_seconds or self._timeout,
            )
            if answer is not None and answer.status < 500:
                return answer
        raise ChainUnreachable(
            f"no validator answers ({', '.join(self._bases) or 'none is known'}); look at `stratosctl status`"
        )


def _registered(node: dict[str, Any], role: str) -> Registered:
    suspended = bool(node["suspended"])
    active = bool(node.get("active", node["status"] == "bonded" and not suspended))
    return Registered(
        node=node["address"],
        role=role,
        name=node["name"],
        owner=node["owner"],
        state=f"{node['status']}{', suspended' if suspended else ''}",
        active=active,
        network_address=node["network_address"],
        deposit_wei=int(node["deposit"]),
    )


def _registered_validator(validator: dict[str, Any]) -> Registered:
    jailed = validator["jailed"] or validator["tombstoned"]
    stake = int(validator["tokens_wei"])
    return Registered(
        node=validator["address"],
        role="validator",
        name=validator["name"],
        owner=validator["operator"],
        state="jailed" if jailed else "bonded" if stake else "unbonded",
        active=not jailed and stake > 0,
        network_address=validator.get("network_address", ""),
        stake_wei=stake,
    )


def _document(answer: Answer) -> Any:
    if answer.status == 200:
        return msgspec.json.decode(answer.body)
    _, sentence = _error_of(answer)
    raise (NotThere if answer.status == 404 else BadInput)(sentence)


def _error_of(answer: Answer) -> tuple[str, str]:
    try:
        error = msgspec.json.decode(answer.body)["error"]
        return str(error["code"]), str(error["sentence"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "http", f"the validator answered HTTP {answer.status}"
