"""Carries ready actions of the outbox to the chain: one authority at a time, the same bytes whoever does it (protocol 1).

The turn goes by action id and moves on after a timeout, so a dead authority delays an action but never stops it; the
chain takes each action once. Transactions are sent one after the other from this node's owner wallet, which keeps its
sequence simple.
"""

import asyncio
import ssl
from collections.abc import Sequence

import structlog

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.ledger.signing import sign_tx
from stratos.meta.application import MetaApplication
from stratos.meta.outbox import authorities, in_flight, signed_message
from stratos.meta.rooms import Action
from stratos.net.peers import RpcError, RpcRefused
from stratos.net.rpc import RpcClient
from stratos.wire.chainrpc import Account, GetAccount, SubmitTxs, TxRecord, TxVerdicts, WaitTx
from stratos.wire.codec import encode
from stratos.wire.config import PeerEntry, split_endpoint
from stratos.wire.rpc import CLASS_NODE

TURN_SECONDS = 2.0
WAIT_MS = 5_000

_log = structlog.get_logger("stratos.meta.submitter")


class Submitter:
    """One node's hand towards the chain; `run` is an eternal task, `committed` wakes it."""

    def __init__(
        self,
        *,
        application: MetaApplication,
        key: NodeKey,
        wallet: WalletKey,
        tls: ssl.SSLContext,
        validators: Sequence[PeerEntry],
    ) -> None:
        self._app = application
        self._key = key
        self._wallet = wallet
        self._tls = tls
        self._validators = validators
        self._position = 0
        self._client: RpcClient | None = None
        self._wake = asyncio.Event()
        self._first_seen: dict[int, float] = {}
        """Action -> loop time at which it was first seen ready."""
        self._submitted: dict[int, float] = {}

    def committed(self) -> None:
        """The log has grown."""
        self._wake.set()

    async def run(self) -> None:
        """Submit what is ready and ours, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            due, later = self._due(loop.time())
            for action in due:
                self._submitted[action.id] = loop.time()
                try:
                    await self._carry(action)
                except RpcError as error:
                    _log.debug("submission failed", action=action.id, reason=str(error))
                    await self._exchange()
            if not due:
                try:
                    async with asyncio.timeout(later):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    def _due(self, now: float) -> tuple[list[Action], float | None]:
        """Actions to submit now, and seconds until the next one may be due."""
        order = [authority.address for authority in authorities(self._app.state)]
        if self._key.address not in order or not self._validators:
            return [], None
        index = order.index(self._key.address)
        due: list[Action] = []
        later: float | None = None
        ready = [action for action in in_flight(self._app.state) if action.ready_height]
        alive = {action.id for action in ready}
        for gone in [known for known in self._first_seen if known not in alive]:
            del self._first_seen[gone]
            self._submitted.pop(gone, None)
        for action in ready:
            first = self._first_seen.setdefault(action.id, now)
            mine = first + (index - action.id) % len(order) * TURN_SECONDS
            last = self._submitted.get(action.id)
            if last is not None:
                mine = max(mine, last + TURN_SECONDS * len(order))
            if mine <= now:
                due.append(action)
            else:
                later = mine - now if later is None else min(later, mine - now)
        return due, later

    async def _carry(self, action: Action) -> None:
        client = await self._connected()
        account = await client.call(GetAccount(self._wallet.address), Account)
        tx = sign_tx(
            self._wallet,
            signed_message(action),
            sequence=account.next_sequence,
            genesis_hash=self._app.genesis_hash,
        )
        answer = await client.call(SubmitTxs((encode(tx),)), TxVerdicts)
        verdict = answer.verdicts[0]
        if verdict.code != "ok":
            _log.warning("action not taken by the mempool", action=action.id, code=verdict.code, reason=verdict.error)
            return
        try:
            record = await client.call(WaitTx(verdict.tx_hash, WAIT_MS), TxRecord, timeout_seconds=WAIT_MS / 1000 + 5)
        except RpcRefused as error:
            _log.debug("action waits", action=action.id, reason=error.sentence)
            return
        _log.info(
            "action carried to the chain",
            action=action.id,
            kind=action.kind,
            height=record.height,
            code=record.result.code,
            reason=record.result.error,
        )

    async def _connected(self) -> RpcClient:
        if self._client is None or self._client.closed:
            entry = self._validators[self._position % len(self._validators)]
            host, port = split_endpoint(entry.endpoint)
            self._client = await RpcClient.connect(
                host,
                port,
                tls=self._tls,
                expected_key=bytes.fromhex(entry.public_key),
                identity=self._key,
                peer_class=CLASS_NODE,
                genesis_hash=self._app.genesis_hash,
            )
        return self._client

    async def _exchange(self) -> None:
        """Use another validator; try what failed again soon."""
        self._position += 1
        if self._client is not None:
            await self._client.close()
            self._client = None
        self._submitted.clear()
        await asyncio.sleep(0.2)
