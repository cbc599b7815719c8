"""Buying ozone: one Prepay transaction through any validator, waited for until it is in a block."""

import time
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from stratos.client.core import Core
from stratos.client.errors import BadInput, NotEnoughOzone, Refused, Unreachable
from stratos.client.records import PrepayResult
from stratos.ledger.signing import sign_tx
from stratos.net.blocking import BlockingRpcClient
from stratos.net.peers import PeerUnreachable, RpcRefused, RpcTimeout
from stratos.wire.chainrpc import Account, GetAccount, SubmitTxs, TxRecord, TxVerdicts, WaitTx
from stratos.wire.codec import encode
from stratos.wire.config import split_endpoint
from stratos.wire.metarpc import Balance, GetBalance
from stratos.wire.rpc import CLASS_CLIENT
from stratos.wire.txs import Prepay

T = TypeVar("T")
R = TypeVar("R", bound=Struct)
WAIT_MS = 4_000
RETRIES = 5
PAUSE_SECONDS = 0.05


def prepay(core: Core, amount_wei: int, beneficiary: bytes | None) -> PrepayResult:
    """Send the transaction, wait for its block and for the ozone to arrive in the meta layer."""
    if amount_wei <= 0:
        raise BadInput(f"{amount_wei} wei cannot be prepaid; give a positive amount")
    deadline = time.monotonic() + core.deadline_seconds
    receiver = beneficiary or core.wallet.address
    before = core.ask(GetBalance(receiver), Balance)
    payment = _Payment(core, Prepay(receiver, str(amount_wei)), deadline)
    record = _on_any_validator(core, deadline, payment.pay)
    if record.result.code != "ok":
        kind = NotEnoughOzone if record.result.code in ("balance", "funds") else Refused
        raise kind(f"the prepay was refused: {record.result.error}")
    bought = 0
    for event in record.result.events:
        if event.kind == "ozone_bought":
            bought = int(dict(event.attributes).get("noz", "0"))
    while time.monotonic() < deadline:
        after = core.ask(GetBalance(receiver), Balance)
        if after.available_noz + after.reserved_noz >= before.available_noz + before.reserved_noz + bought:
            break
        time.sleep(PAUSE_SECONDS)
    return PrepayResult(tx_hash=record.tx_hash.hex(), height=record.height, amount_wei=amount_wei, bought_noz=bought)


class _Payment:
    """One transaction, signed once: a second validator gets the same bytes, so it is never paid twice."""

    def __init__(self, core: Core, message: Prepay, deadline: float) -> None:
        self._core = core
        self._message = message
        self._deadline = deadline
        self._tx = b""

    def pay(self, client: BlockingRpcClient) -> TxRecord:
        """Submit and wait for the block."""
        for _ in range(RETRIES):
            if not self._tx:
                self._tx = self._signed(client)
            verdict = client.call(SubmitTxs((self._tx,)), TxVerdicts).verdicts[0]
            if verdict.code in ("ok", "duplicate"):
                return self._wait(client, verdict.tx_hash)
            if verdict.code != "sequence":
                kind = NotEnoughOzone if verdict.code in ("balance", "funds", "fee") else Refused
                raise kind(f"the prepay was refused: {verdict.error}")
            try:
                return client.call(WaitTx(verdict.tx_hash, 0), TxRecord)
            except RpcRefused:
                self._tx = b""  # never ordered: another program has used the number, so sign with the next one
        raise Refused("another program keeps using this wallet; try again when it is done", "sequence")

    def _signed(self, client: BlockingRpcClient) -> bytes:
        account = client.call(GetAccount(self._core.wallet.address), Account)
        tx = sign_tx(
            self._core.wallet, self._message, sequence=account.next_sequence, genesis_hash=self._core.genesis_hash
        )
        return encode(tx)

    def _wait(self, client: BlockingRpcClient, tx_hash: bytes) -> TxRecord:
        while True:
            try:
                return client.call(WaitTx(tx_hash, WAIT_MS), TxRecord, timeout_seconds=WAIT_MS / 1000 + 4)
            except RpcRefused as error:
                if error.code != "pending" or time.monotonic() > self._deadline:
                    raise


def _on_any_validator(core: Core, deadline: float, action: Callable[[BlockingRpcClient], T]) -> T:
    problem = "no validator is known"
    while True:
        for validator in core.endpoints.validators:
            host, port = split_endpoint(validator.p2p)
            try:
                with BlockingRpcClient(
                    host,
                    port,
                    expected_key=None if validator.public_key is None else bytes.fromhex(validator.public_key),
                    identity=core.key,
                    peer_class=CLASS_CLIENT,
                    genesis_hash=core.genesis_hash,
                ) as client:
                    return action(client)
            except RpcRefused as error:
                raise Refused(error.sentence, error.code) from error
            except (PeerUnreachable, RpcTimeout) as error:
                problem = str(error)
        if time.monotonic() > deadline or not core.endpoints.validators:
            raise Unreachable(f"no validator took the transaction: {problem}")
        time.sleep(PAUSE_SECONDS)
