"""Joining: a resource node that the chain does not know registers itself with its owner's wallet and deposit.

Once, at start, and only when the config names a deposit. The transaction is signed by the owner and carries the node key's
agreement. Activation is then the meta layer's: it hears the node's status reports and makes the deposit effective.
"""

import threading

import structlog

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes
from stratos.ledger.signing import sign_tx
from stratos.net.blocking import BlockingRpcClient
from stratos.net.peers import RpcError, RpcRefused
from stratos.resource.metalink import MetaLink, MetaUnreachable
from stratos.wire.chainrpc import Account, GetAccount, SubmitTxs, TxRecord, TxVerdicts, WaitTx
from stratos.wire.codec import encode
from stratos.wire.config import NodeConfig, PeerEntry, split_endpoint
from stratos.wire.metarpc import GetNetwork, Network
from stratos.wire.rpc import CLASS_CLIENT
from stratos.wire.txs import TAG_NODE, CreateResourceNode, registration_body

PAUSE_SECONDS = 1.0
WAIT_MS = 5_000
_log = structlog.get_logger("stratos.resource.registration")


def registration(
    *, key: NodeKey, owner: bytes, config: NodeConfig, network_address: str, genesis_hash: bytes
) -> CreateResourceNode:
    """The message with which `owner` registers the node, signed by the node's key."""
    message = CreateResourceNode(
        key.public_key,
        config.deposit_wei,
        owner,
        config.name,
        config.host or config.name,
        network_address,
        b"\0" * 64,
    )
    signature = key.sign(sign_bytes(TAG_NODE, genesis_hash, registration_body(owner, message)))
    return CreateResourceNode(
        message.node_public_key,
        message.deposit_wei,
        message.beneficiary,
        message.name,
        message.host,
        message.network_address,
        signature,
    )


def is_registered(meta: MetaLink, address: bytes) -> bool | None:
    """Whether the meta layer knows the node; None when nobody answers."""
    try:
        network = meta.call(GetNetwork(), Network, deadline_seconds=5.0)
    except (RpcRefused, MetaUnreachable):
        return None
    return any(holder.address == address for holder in network.holders)


def register(
    *,
    key: NodeKey,
    wallet: WalletKey,
    config: NodeConfig,
    network_address: str,
    genesis_hash: bytes,
    meta: MetaLink,
    stop: threading.Event,
) -> None:
    """Register unless known; tries until it is done, the chain says why not, or the node stops."""
    message = registration(
        key=key, owner=wallet.address, config=config, network_address=network_address, genesis_hash=genesis_hash
    )
    turn = 0
    while not stop.is_set():
        known = is_registered(meta, key.address)
        if known:
            return
        if known is False and config.validators:
            validator = config.validators[turn % len(config.validators)]
            turn += 1
            try:
                _send(validator, message, key=key, wallet=wallet, genesis_hash=genesis_hash)
            except RpcError as error:
                _log.warning("registration waits", validator=validator.name, reason=str(error))
        stop.wait(PAUSE_SECONDS)


def _send(
    validator: PeerEntry, message: CreateResourceNode, *, key: NodeKey, wallet: WalletKey, genesis_hash: bytes
) -> None:
    host, port = split_endpoint(validator.endpoint)
    with BlockingRpcClient(
        host,
        port,
        expected_key=bytes.fromhex(validator.public_key),
        identity=key,
        peer_class=CLASS_CLIENT,
        genesis_hash=genesis_hash,
    ) as client:
        account = client.call(GetAccount(wallet.address), Account)
        if account.next_sequence > account.sequence:
            return  # one is on its way already
        tx = sign_tx(wallet, message, sequence=account.next_sequence, genesis_hash=genesis_hash)
        verdict = client.call(SubmitTxs((encode(tx),)), TxVerdicts).verdicts[0]
        if verdict.code != "ok":
            raise RpcRefused(verdict.code, verdict.error)
        record = client.call(WaitTx(verdict.tx_hash, WAIT_MS), TxRecord, timeout_seconds=WAIT_MS / 1000 + 4)
        if record.result.code != "ok":
            raise RpcRefused(record.result.code, record.result.error)
        _log.info("registered", height=record.height, deposit_wei=message.deposit_wei)
