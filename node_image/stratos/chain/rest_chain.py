"""Endpoints about the chain itself: blocks, headers, transactions, accounts, proofs, validators, bridge, events.

Where a client must check signatures or proofs, the answer carries `encoded`: the same record as base64 of its canonical
bytes, which is what hashes and signatures are made of; the other fields are the same thing for people.
"""

import base64
from typing import Any

from blake3 import blake3
from msgspec import Struct, to_builtins

from stratos.chain import openapi as api
from stratos.chain.application import ChainApplication
from stratos.chain.json_forms import to_json
from stratos.chain.openapi import Arguments, Endpoint, Param, listing, record
from stratos.chain.service import ChainService
from stratos.ledger.machine import Ledger
from stratos.net.peers import RpcRefused
from stratos.state import StateProof
from stratos.state.keys import key_to_text
from stratos.wire.codec import decode, encode
from stratos.wire.txs import Tx

MAX_EVENTS = 1_000
MAX_BLOCKS_SCANNED = 500

_HEADER = api.ANY_OBJECT
_COMMIT = api.ANY_OBJECT
_EVENT = record(kind=api.TEXT, attributes={"type": "object", "additionalProperties": api.TEXT})
_RESULT = record(code=api.TEXT, error=api.TEXT, events=listing(_EVENT))
_VALIDATOR = record(address=api.HEX, public_key=api.HEX, weight=api.INTEGER)
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_CHANGE = record(header=_HEADER, commit=_COMMIT, next_validators=listing(_VALIDATOR), encoded=_BASE64)


def encoded(value: Struct) -> str:
    """Base64 of a record's canonical bytes."""
    return base64.b64encode(encode(value)).decode()


class ChainEndpoints:
    """The answers; `endpoints()` is their table."""

    def __init__(self, *, service: ChainService, application: ChainApplication, ledger: Ledger) -> None:
        self._service = service
        self._application = application
        self._ledger = ledger

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The table."""
        height = Param(name="height", kind=api.HEIGHT_OR_NEWEST)
        return (
            Endpoint(
                path="/stratos/genesis",
                summary="The genesis file of this network and its hash.",
                answer=self.genesis,
                schema=record(hash=api.HEX, genesis=api.ANY_OBJECT),
            ),
            Endpoint(
                path="/stratos/account/{address}",
                summary="Balance and sequence of a wallet; zeros when it was never used.",
                answer=self.account,
                schema=record(
                    address=api.HEX,
                    height=api.INTEGER,
                    balance_wei=api.INTEGER,
                    sequence=api.INTEGER,
                    next_sequence=api.INTEGER,
                ),
                params=(Param(name="address", kind=api.WALLET_ADDRESS),),
            ),
            Endpoint(
                path="/stratos/block/{height}",
                summary="A block with its certificate, decoded transactions and results.",
                answer=self.block,
                schema=record(
                    header=_HEADER,
                    commit=_COMMIT,
                    last_commit=_COMMIT,
                    txs=listing(record(hash=api.HEX, tx=api.ANY_OBJECT, result=_RESULT)),
                    end_events=listing(_EVENT),
                    encoded=_BASE64,
                ),
                params=(height,),
                missing=True,
            ),
            Endpoint(
                path="/stratos/header/{height}",
                summary="A header with its commit certificate.",
                answer=self.header,
                schema=record(header=_HEADER, commit=_COMMIT, encoded=_BASE64),
                params=(height,),
                missing=True,
            ),
            Endpoint(
                path="/stratos/tx/{hash}",
                summary="A committed transaction with its result; 404 `pending` while it waits for a block.",
                answer=self.transaction,
                schema=record(hash=api.HEX, height=api.INTEGER, index=api.INTEGER, tx=api.ANY_OBJECT, result=_RESULT),
                params=(
                    Param(name="hash", kind=api.HASH),
                    Param(name="wait_ms", kind=api.WAIT_MS, query=True, default=0),
                ),
                missing=True,
            ),
            Endpoint(
                path="/stratos/proof/{key}",
                route="/stratos/proof/{key:.+}",
                summary="A state key's value (null when absent) with its proof, header and certificate.",
                answer=self.proof,
                schema=record(
                    key=api.HEX,
                    key_text=api.TEXT,
                    value=api.HEX_OR_NULL,
                    proof=api.ANY_OBJECT,
                    header=_HEADER,
                    commit=_COMMIT,
                    encoded=_BASE64,
                ),
                params=(Param(name="key", kind=api.STATE_KEY),),
                missing=True,
            ),
            Endpoint(
                path="/stratos/validators/{height}",
                summary="The validators that decide on a height (0: the next one).",
                answer=self.validators,
                schema=record(height=api.INTEGER, hash=api.HEX, validators=listing(_VALIDATOR)),
                params=(height,),
                missing=True,
            ),
            Endpoint(
                path="/stratos/validator_changes",
                summary="Every change of the validator set from a height on: what a light client follows from genesis.",
                answer=self.changes,
                schema=record(changes=listing(_CHANGE)),
                params=(Param(name="from", kind=api.HEIGHT, query=True, default=1),),
            ),
            Endpoint(
                path="/stratos/bridge/{height}",
                summary="What the meta layer takes from a block: header, certificate and all bridge events.",
                answer=self.bridge,
                schema=record(
                    header=_HEADER,
                    commit=_COMMIT,
                    events=listing(_EVENT),
                    next_validators=listing(_VALIDATOR),
                    encoded=_BASE64,
                ),
                params=(height,),
                missing=True,
            ),
            Endpoint(
                path="/stratos/events",
                summary="Events from a height on, in order; `next` is the height to go on from.",
                answer=self.events,
                schema=record(
                    next=api.INTEGER,
                    events=listing(
                        record(
                            height=api.INTEGER,
                            tx={"type": ["string", "null"]},
                            kind=api.TEXT,
                            attributes={"type": "object", "additionalProperties": api.TEXT},
                        )
                    ),
                ),
                params=(
                    Param(name="from", kind=number_from_genesis(), query=True, default=0),
                    Param(name="limit", kind=api.number(1, MAX_EVENTS, "At most so many."), query=True, default=100),
                ),
            ),
        )

    def genesis(self, _arguments: Arguments) -> Any:
        return {"hash": self._ledger.genesis_hash.hex(), "genesis": to_builtins(self._ledger.genesis)}

    def account(self, arguments: Arguments) -> Any:
        found = to_json(self._service.account(arguments["address"]))
        del found["type"]
        return found

    def block(self, arguments: Arguments) -> Any:
        found = self._service.block(arguments["height"])
        results = self._service.results(found.block.header.height)
        txs = []
        for raw, result in zip(found.block.entries, results.results, strict=True):
            txs.append(
                {"hash": _tx_hash(raw), "tx": to_json(decode(raw, Tx)), "result": to_json(result)},
            )
        return {
            "header": to_json(found.block.header),
            "commit": to_json(found.commit),
            "last_commit": to_json(found.block.last_commit),
            "txs": txs,
            "end_events": to_json(results.end_events),
            "encoded": encoded(found),
        }

    def header(self, arguments: Arguments) -> Any:
        found = self._service.header(arguments["height"])
        return {"header": to_json(found.header), "commit": to_json(found.commit), "encoded": encoded(found)}

    async def transaction(self, arguments: Arguments) -> Any:
        found = await self._service.wait_tx(arguments["hash"], arguments["wait_ms"])
        return {
            "hash": found.tx_hash.hex(),
            "height": str(found.height),
            "index": str(found.index),
            "tx": to_json(decode(found.tx, Tx)),
            "result": to_json(found.result),
        }

    def proof(self, arguments: Arguments) -> Any:
        found = self._service.prove(arguments["key"])
        return {
            "key": found.key.hex(),
            "key_text": key_to_text(found.key),
            "value": None if found.value is None else found.value.hex(),
            "proof": to_json(decode(found.proof, StateProof)),
            "header": to_json(found.header),
            "commit": to_json(found.commit),
            "encoded": encoded(found),
        }

    def validators(self, arguments: Arguments) -> Any:
        height = arguments["height"]
        if height == 0 or height == self._application.height + 1:
            height = self._application.height + 1
            chosen = self._application.next_voters
        else:
            chosen = self._application.store.validators(self._service.header(height).header.validators_hash)
        return {"height": str(height), "hash": chosen.hash.hex(), "validators": to_json(chosen.validators)}

    def changes(self, arguments: Arguments) -> Any:
        found = self._service.changes(arguments["from"])
        return {"changes": [{**to_json(change), "encoded": encoded(change)} for change in found.changes]}

    def bridge(self, arguments: Arguments) -> Any:
        found = self._service.bridge_block(arguments["height"])
        document = to_json(found)
        del document["type"]
        return {**document, "encoded": encoded(found)}

    def events(self, arguments: Arguments) -> Any:
        found: list[dict[str, Any]] = []
        height = max(arguments["from"], self._ledger.genesis.initial_height - 1)
        stop = min(self._application.height, height + MAX_BLOCKS_SCANNED - 1)
        while height <= stop and len(found) < arguments["limit"]:
            try:
                found.extend(self._events_of(height))
            except RpcRefused:
                break
            height += 1
        return {"next": str(height), "events": found}

    def _events_of(self, height: int) -> list[dict[str, Any]]:
        results = self._service.results(height)
        found = []
        if any(result.events for result in results.results):
            entries = self._service.block(height).block.entries
            for raw, result in zip(entries, results.results, strict=True):
                if result.events:
                    tx_hash = _tx_hash(raw)
                    found += [{"height": str(height), "tx": tx_hash, **to_json(event)} for event in result.events]
        found += [{"height": str(height), "tx": None, **to_json(event)} for event in results.end_events]
        return found


def number_from_genesis() -> api.Kind:
    """A height where 0 is the genesis itself."""
    return api.number(0, 2**53, "First height; 0 includes the events of the genesis.")


def _tx_hash(raw: bytes) -> str:
    return blake3(raw).hexdigest()
