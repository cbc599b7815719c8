"""The faucet's way to the chain: the few questions it asks a validator, and the connection that asks them."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from stratos.crypto.keys import NodeKey
from stratos.net.peers import PeerUnreachable, RpcError, RpcRefused
from stratos.net.rpc import RpcClient
from stratos.wire.chainrpc import Account, GetAccount, SubmitTxs, TxRecord, TxVerdict, TxVerdicts, WaitTx
from stratos.wire.config import PeerEntry, split_endpoint
from stratos.wire.rpc import CLASS_NODE

R = TypeVar("R", bound=Struct)
ASK_SECONDS = 5.0


class ChainDoor(Protocol):
    """What the faucet needs of a validator; each call raises RpcError when nobody answers."""

    async def account(self, address: bytes) -> Account:
        """Balance and sequences."""
        ...

    async def submit(self, tx: bytes) -> TxVerdict:
        """Hand a transaction in."""
        ...

    async def wait(self, tx_hash: bytes, wait_ms: int) -> TxRecord | None:
        """The committed transaction, or None when it is in no block after so long."""
        ...

    async def lost(self, address: bytes, tx_hash: bytes, sequence: int) -> bool:
        """Whether one validator knows of another transaction with this sequence, so that ours can never be committed."""
        ...


class ValidatorDoor:
    """The chain through one validator at a time; another one after it failed to answer."""

    def __init__(
        self, *, key: NodeKey, genesis_hash: bytes, tls: ssl.SSLContext, validators: Sequence[PeerEntry]
    ) -> None:
        self._key = key
        self._genesis_hash = genesis_hash
        self._tls = tls
        self._validators = list(validators)
        self._position = 0
        self._client: RpcClient | None = None
        self._connecting = asyncio.Lock()

    async def account(self, address: bytes) -> Account:
        """Balance and sequences."""
        return await self._ask(GetAccount(address), Account)

    async def submit(self, tx: bytes) -> TxVerdict:
        """Hand a transaction in."""
        return (await self._ask(SubmitTxs((tx,)), TxVerdicts)).verdicts[0]

    async def wait(self, tx_hash: bytes, wait_ms: int) -> TxRecord | None:
        """The committed transaction, or None."""
        try:
            return await self._ask(WaitTx(tx_hash, wait_ms), TxRecord, timeout_seconds=wait_ms / 1000 + 5)
        except RpcRefused:
            return None

    async def lost(self, address: bytes, tx_hash: bytes, sequence: int) -> bool:
        """Asked of one validator, account first: what it has committed by then is found by its hash afterwards."""
        client = await self._connected()
        account = await client.call(GetAccount(address), Account)
        if account.sequence <= sequence:
            return False
        try:
            await client.call(WaitTx(tx_hash, 0), TxRecord)
        except RpcRefused:
            return True
        return False

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

    async def _ask(self, request: Struct, kind: type[R], *, timeout_seconds: float = ASK_SECONDS) -> R:
        """Ask the validator in use; when it does not answer, each of the others once."""
        failure: RpcError | None = None
        for _ in self._validators:
            try:
                return await (await self._connected()).call(request, kind, timeout_seconds=timeout_seconds)
            except RpcRefused:
                raise
            except RpcError as error:
                failure = error
                await self._exchange()
        raise failure or PeerUnreachable("no validator is known to this node; correct its config.json")

    async def _connected(self) -> RpcClient:
        async with self._connecting:
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
                    genesis_hash=self._genesis_hash,
                )
            return self._client

    async def _exchange(self) -> None:
        self._position += 1
        client, self._client = self._client, None
        if client is not None:
            await client.close()
