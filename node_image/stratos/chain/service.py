"""What a validator answers over the framed RPC: submit, wait, read, prove, follow.

Waiting costs nothing but a future: one list per awaited transaction, one future for "the next block", both resolved by
`committed` in the turn of the loop in which the block became final. Reads are plain functions on committed state.
"""

import asyncio
from collections.abc import Callable

from stratos.chain.admission import Admission
from stratos.chain.application import ChainApplication
from stratos.ledger import bank
from stratos.net.peers import CLIENTS, NODES, PeerIdentity, RpcRefused
from stratos.net.routes import Routes
from stratos.wire.block import CommittedBlock, SignedHeader
from stratos.wire.chainrpc import (
    Account,
    BlockResults,
    BridgeBlocks,
    ChainStatus,
    GetAccount,
    GetBlock,
    GetBridge,
    GetChainStatus,
    GetHeader,
    GetProof,
    GetResults,
    GetValidatorChanges,
    HeaderAnswer,
    ProofAnswer,
    SubmitTxs,
    TxBatch,
    TxRecord,
    TxVerdicts,
    ValidatorChanges,
    WaitTx,
)
from stratos.wire.codec import encode
from stratos.wire.metalog import ChainBlock

BRIDGE_ANSWER_BYTES = 2 * 1024 * 1024
"""A bridge answer stops growing here (one block always fits)."""


class ChainService:
    """Handlers over one application. `committed` must be called after every commit."""

    def __init__(self, *, application: ChainApplication, admission: Admission, peers_up: Callable[[], int]) -> None:
        self._application = application
        self._store = application.store
        self._mempool = application.mempool
        self._admission = admission
        self._peers_up = peers_up
        self._tx_waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        self._next_block: asyncio.Future[None] | None = None

    def register(self, routes: Routes) -> None:
        """Put all handlers into the table of the node's port."""
        routes.on_notify(TxBatch, lambda _peer, batch: self._admission.gossiped(batch.txs), allow=NODES)
        routes.on_request(SubmitTxs, self._submit, allow=CLIENTS)
        routes.on_request(WaitTx, self._wait_tx, allow=CLIENTS)
        routes.on_request(GetBridge, self._bridge, allow=CLIENTS)
        routes.on_request(GetChainStatus, lambda _peer, _request: self.status())
        routes.on_request(GetAccount, lambda _peer, request: self.account(request.address))
        routes.on_request(GetBlock, lambda _peer, request: self.block(request.height), allow=CLIENTS)
        routes.on_request(GetHeader, self._header)
        routes.on_request(GetProof, lambda _peer, request: self.prove(request.key))
        routes.on_request(GetResults, lambda _peer, request: self.results(request.height), allow=CLIENTS)
        routes.on_request(GetValidatorChanges, lambda _peer, request: self.changes(request.first), allow=CLIENTS)

    def committed(self, tx_hashes: list[bytes]) -> None:
        """Wake everybody who waits for this block or a transaction in it."""
        if self._next_block is not None:
            self._next_block.set_result(None)
            self._next_block = None
        if self._tx_waiters:
            for tx_hash in tx_hashes:
                for future in self._tx_waiters.pop(tx_hash, ()):
                    if not future.done():
                        future.set_result(None)

    # -- reads (also behind REST) --------------------------------------------------------------------------------

    def status(self) -> ChainStatus:
        """Height, roots, peers, mempool."""
        application = self._application
        return ChainStatus(
            application.height,
            application.block_hash,
            application.state.root,
            application.time_ms,
            self._peers_up(),
            len(self._mempool),
        )

    def account(self, address: bytes) -> Account:
        """Balance and sequences of an address (zeros when it was never used)."""
        state = self._application.state
        sequence = bank.sequence(state, address)
        waiting = self._mempool.next_sequence(address)
        return Account(
            address,
            self._application.height,
            str(bank.balance(state, address)),
            sequence,
            max(sequence, waiting or 0),
        )

    def block(self, height: int) -> CommittedBlock:
        """A committed block; 0 is the newest."""
        found = self._store.block(height or self._application.height)
        if found is None:
            raise self._no_height(height)
        return found

    def header(self, height: int) -> SignedHeader:
        """A header and its certificate; 0 is the newest."""
        found = self._store.header(height or self._application.height)
        if found is None:
            raise self._no_height(height)
        return found

    def bridge_block(self, height: int) -> ChainBlock:
        """Header, certificate and bridge events of a height; 0 is the newest."""
        found = self._store.bridge(height or self._application.height)
        if found is None:
            raise self._no_height(height)
        return found

    def results(self, height: int) -> BlockResults:
        """Results and end events of a block; height 0 gives the genesis events."""
        found = self._store.results(height)
        if found is None:
            raise self._no_height(height)
        return found

    def transaction(self, tx_hash: bytes) -> TxRecord:
        """A committed transaction; RpcRefused `pending` while it waits, `unknown` otherwise."""
        found = self._store.transaction(tx_hash)
        if found is not None:
            return found
        if tx_hash in self._mempool:
            raise RpcRefused("pending", f"transaction {tx_hash.hex()} waits for a block; ask again")
        raise RpcRefused("unknown", f"transaction {tx_hash.hex()} is not known here; submit it, or check its hash")

    def prove(self, key: bytes) -> ProofAnswer:
        """A key's value or absence in the newest committed state, with proof, header and certificate."""
        if self._application.height == 0:
            raise RpcRefused("unknown", "there is no block yet to prove against; ask again in a moment")
        newest = self.header(0)
        state = self._application.state
        return ProofAnswer(key, state.get(key), encode(state.prove(key)), newest.header, newest.commit)

    def changes(self, first: int) -> ValidatorChanges:
        """Validator changes from a height on."""
        return ValidatorChanges(self._store.changes(first))

    async def wait_tx(self, tx_hash: bytes, wait_ms: int) -> TxRecord:
        """A committed transaction, waiting for it; RpcRefused `pending` or `unknown` when it does not come in time."""
        found = self._store.transaction(tx_hash)
        if found is None and wait_ms > 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._tx_waiters.setdefault(tx_hash, []).append(future)
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await future
            except TimeoutError:
                pass
            finally:
                self._forget_waiter(tx_hash, future)
        return found or self.transaction(tx_hash)

    async def wait_height(self, height: int, wait_ms: int) -> bool:
        """Wait until `height` is committed; False when it is not within the time."""
        try:
            async with asyncio.timeout(wait_ms / 1000):
                while self._application.height < height:
                    if self._next_block is None:
                        self._next_block = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._next_block)
        except TimeoutError:
            return False
        return True

    # -- handlers ------------------------------------------------------------------------------------------------

    async def _submit(self, _peer: PeerIdentity, request: SubmitTxs) -> TxVerdicts:
        return TxVerdicts(tuple(await self._admission.submit(request.txs)))

    async def _wait_tx(self, _peer: PeerIdentity, request: WaitTx) -> TxRecord:
        return await self.wait_tx(request.tx_hash, request.wait_ms)

    async def _bridge(self, _peer: PeerIdentity, request: GetBridge) -> BridgeBlocks:
        if request.first < 1:
            raise RpcRefused("invalid", "the bridge begins with the first block; ask from height 1")
        if self._application.height < request.first and request.wait_ms > 0:
            await self.wait_height(request.first, request.wait_ms)
        blocks: list[ChainBlock] = []
        size = 0
        for height in range(request.first, min(self._application.height, request.first + request.limit - 1) + 1):
            block = self._store.bridge(height)
            if block is None:
                break
            size += len(encode(block))
            if blocks and size > BRIDGE_ANSWER_BYTES:
                break
            blocks.append(block)
        return BridgeBlocks(self._application.height, tuple(blocks))

    def _header(self, _peer: PeerIdentity, request: GetHeader) -> HeaderAnswer:
        found = self.header(request.height)
        return HeaderAnswer(found.header, found.commit)

    def _forget_waiter(self, tx_hash: bytes, future: "asyncio.Future[None]") -> None:
        waiters = self._tx_waiters.get(tx_hash)
        if waiters is not None and future in waiters:
            waiters.remove(future)
            if not waiters:
                del self._tx_waiters[tx_hash]

    def _no_height(self, height: int) -> RpcRefused:
        return RpcRefused("unknown", f"there is no block {height}; the newest is {self._application.height}")
