"""Follows the chain and brings each of its blocks into the log (protocol 1).

Every meta node keeps a long poll at one validator and so has each block at once; only the authority whose turn it is
submits it, the next ones follow after growing delays when it does not appear in the log. Duplicates are refused by the log
without harm. A validator that does not answer, or whose blocks the log refuses, is exchanged for the next. Validators that
joined after the config was written are added when the log knows them as voters.
"""

import asyncio
import secrets
import ssl
import time
from collections.abc import Callable

import structlog

from stratos.crypto.keys import NodeKey
from stratos.meta.application import MetaApplication
from stratos.meta.bridge import chain_validators
from stratos.meta.entries import sign_entry
from stratos.meta.intake import Intake
from stratos.meta.outbox import authorities
from stratos.meta.rooms import CHAIN_HEIGHT
from stratos.net.endpoints import usable_endpoint
from stratos.net.peers import RpcError, RpcRefused
from stratos.net.rpc import RpcClient
from stratos.wire.chainrpc import BridgeBlocks, GetBridge
from stratos.wire.codec import encode
from stratos.wire.config import PeerEntry, split_endpoint
from stratos.wire.metalog import ChainBlock
from stratos.wire.peersrpc import GetPeers, Peers
from stratos.wire.rpc import CLASS_NODE

WAIT_MS = 10_000
TURN_BLOCKS = 16
"""Consecutive chain blocks one authority submits."""
FALLBACK_SECONDS = 1.0
AHEAD_BLOCKS = 128
"""Blocks read ahead of the log at most."""
RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0
MAX_KNOWN_VALIDATORS = 256

_log = structlog.get_logger("stratos.meta.bridge")


class ChainFollower:
    """One node's side of the bridge; `run` is an eternal task."""

    def __init__(
        self,
        *,
        application: MetaApplication,
        intake: Intake,
        key: NodeKey,
        tls: ssl.SSLContext,
        validators: list[PeerEntry],
        own_host: str = "",
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.seen_height = 0
        """The chain's height as its validators tell."""
        self._app = application
        self._intake = intake
        self._key = key
        self._tls = tls
        self._validators = validators
        self._own_host = own_host
        self._asked_about = b""
        """Set of chain validators for which their endpoints have been asked."""
        self._wall_ms = wall_ms
        self._tasks: set[asyncio.Task[None]] = set()
        self._bringing: set[int] = set()
        """Heights some task is bringing."""
        self._mistrusted = False
        """The validator followed now has told something the log refuses."""

    async def run(self) -> None:
        """Follow for ever, one validator at a time."""
        position = self._key.address[0] % max(1, len(self._validators))
        delay = RETRY_SECONDS
        while True:
            if not self._validators:
                await asyncio.sleep(LAST_RETRY_SECONDS)
                continue
            entry = self._validators[position % len(self._validators)]
            try:
                await self._follow(entry)
                delay = RETRY_SECONDS
            except RpcError as error:
                _log.debug("validator exchanged", validator=entry.name, reason=str(error))
                delay = min(LAST_RETRY_SECONDS, delay * 1.5)
            position += 1
            await asyncio.sleep(delay)

    async def _follow(self, entry: PeerEntry) -> None:
        host, port = split_endpoint(entry.endpoint)
        client = await RpcClient.connect(
            host,
            port,
            tls=self._tls,
            expected_key=bytes.fromhex(entry.public_key),
            identity=self._key,
            peer_class=CLASS_NODE,
            genesis_hash=self._app.genesis_hash,
        )
        async with client:
            self._mistrusted = False
            following = CHAIN_HEIGHT.get(self._app.state) + 1
            while not self._mistrusted:
                await self._learn_validators(client)
                height = CHAIN_HEIGHT.get(self._app.state)
                if following > height + AHEAD_BLOCKS:
                    await self._intake.next_block()
                    continue
                following = max(following, height + 1)
                answer = await client.call(
                    GetBridge(following, 64, WAIT_MS), BridgeBlocks, timeout_seconds=WAIT_MS / 1000 + 5
                )
                self.seen_height = max(self.seen_height, answer.height)
                for block in answer.blocks:
                    self._offer(block)
                    following = block.header.height + 1
        _log.warning("validator exchanged", validator=entry.name, reason="the log refuses its blocks")

    async def _learn_validators(self, client: RpcClient) -> None:
        """Add the endpoints of validators that the log has come to know, so that the way to the chain outlives the config."""
        voters = chain_validators(self._app.state)
        if voters.hash == self._asked_about:
            return
        try:
            told = await client.call(GetPeers(), Peers)
        except RpcRefused:
            return  # an older validator does not tell
        self._asked_about = voters.hash
        keys = {voter.public_key for voter in voters} - {bytes.fromhex(entry.public_key) for entry in self._validators}
        for peer in told.peers:
            room = len(self._validators) < MAX_KNOWN_VALIDATORS
            if room and peer.public_key in keys and usable_endpoint(peer.network_address, own_host=self._own_host):
                key = peer.public_key.hex()
                self._validators.append(
                    PeerEntry(name=key[:12], role="validator", public_key=key, endpoint=peer.network_address)
                )
                _log.info("validator learned", validator=key[:12], endpoint=peer.network_address)

    def _offer(self, block: ChainBlock) -> None:
        height = block.header.height
        if height in self._bringing:
            return
        self._bringing.add(height)
        task = asyncio.get_running_loop().create_task(self._bring(block))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: self._bringing.discard(height))

    async def _bring(self, block: ChainBlock) -> None:
        """Submit when it is this authority's turn, or when those before it have not; until the log has the height."""
        height = block.header.height
        while CHAIN_HEIGHT.get(self._app.state) < height:
            order = [authority.address for authority in authorities(self._app.state)]
            turn = 0
            if self._key.address in order:
                turn = (order.index(self._key.address) - height // TURN_BLOCKS) % len(order)
            waiting = self._app.pool.has_chain_height(height)
            if turn or waiting or self._key.address not in order:
                await self._wait_for(height, max(1, turn) * FALLBACK_SECONDS)
                if CHAIN_HEIGHT.get(self._app.state) >= height:
                    return
                if self._key.address not in order or self._app.pool.has_chain_height(height):
                    continue
            if not await self._submit(block):
                self._mistrusted = True
                return

    async def _wait_for(self, height: int, seconds: float) -> None:
        """Until the log has the height, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while CHAIN_HEIGHT.get(self._app.state) < height:
                    await self._intake.next_block()
        except TimeoutError:
            pass

    async def _submit(self, block: ChainBlock) -> bool:
        """Order one block; False when the log says that its proof is wrong."""
        entry = sign_entry(
            block,
            key=self._key,
            genesis_hash=self._app.genesis_hash,
            nonce=secrets.token_bytes(16),
            time_ms=self._wall_ms(),
        )
        try:
            outcome = await self._intake.submit(encode(entry))
        except TimeoutError:
            return True
        code = outcome.result.code
        if code in ("ok", "order"):
            return True
        _log.warning("chain block refused", height=block.header.height, code=code, reason=outcome.result.error)
        await asyncio.sleep(RETRY_SECONDS)
        return code != "chain"
