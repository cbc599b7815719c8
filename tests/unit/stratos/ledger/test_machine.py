"""Transactions: fee and sequence, refusals, what the bridge is told, and the mempool's check."""

from typing import Any

import pytest

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes
from stratos.ledger import bank, queries, rewards
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import LedgerError
from stratos.ledger.events import BRIDGE_KINDS, attributes
from stratos.ledger.machine import Ledger
from stratos.ledger.signing import sign_tx, verify_tx
from stratos.state import AuthMap, Branch, MemoryStore
from stratos.wire import txs
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisNode, GenesisPrepay, LedgerParams

STOS = 10**18
GAS = 10**9
ALICE = WalletKey(b"a" * 32)
BOB = WalletKey(b"b" * 32)
NODE = NodeKey(b"r" * 32)
METAS = [NodeKey(bytes([number]) * 32) for number in range(1, 5)]
CONTEXT = BlockContext(height=2, time_ms=1000)


class Net:
    """A ledger with four authorities, one resource node, and Alice."""

    def __init__(self) -> None:
        def node(key: NodeKey, deposit: int) -> GenesisNode:
            return GenesisNode(
                owner=BOB.address, beneficiary=BOB.address, node_public_key=key.public_key, deposit_wei=str(deposit)
            )

        self.ledger = Ledger(
            Genesis(
                network="unit",
                time_ms=0,
                ledger=LedgerParams(gas_price_wei=str(GAS)),
                accounts=(GenesisAccount(address=ALICE.address, balance_wei=str(100 * STOS)),),
                meta_nodes=tuple(node(key, 100 * STOS) for key in METAS),
                resource_nodes=(node(NODE, STOS),),
                prepays=(GenesisPrepay(sender=ALICE.address, beneficiary=ALICE.address, amount_wei=str(10 * STOS)),),
            )
        )
        self.state = Branch(MemoryStore())
        self.genesis_events = self.ledger.init_genesis(self.state)

    def tx(self, message: txs.Message, sequence: int, key: WalletKey = ALICE) -> txs.Tx:
        return sign_tx(key, message, sequence=sequence, genesis_hash=self.ledger.genesis_hash)

    def deliver(self, message: txs.Message, sequence: int, key: WalletKey = ALICE) -> Any:
        return self.ledger.deliver_tx(self.state, self.tx(message, sequence, key), CONTEXT)

    def signed(self, message: Any, count: int = 3) -> Any:
        body = sign_bytes(txs.TAG_ACTION, self.ledger.genesis_hash, txs.action_body(message))
        signatures = tuple(txs.AuthoritySignature(key.address, key.sign(body)) for key in METAS[:count])
        return txs.with_signatures(message, signatures)

    def root(self) -> bytes:
        return AuthMap().update(dict(self.state.items(b""))).root


def _report(volume: int, epoch: int = 1) -> txs.VolumeReport:
    row = txs.ReportRow(BOB.address, NODE.address, str(volume))
    return txs.VolumeReport(epoch, (row,), b"r" * 32, (), ())


def test_signatures_are_of_one_network() -> None:
    """A transaction verifies under its genesis only."""
    net = Net()
    tx = net.tx(txs.Send(BOB.address, "1"), 0)
    assert verify_tx(tx, net.ledger.genesis_hash)
    assert not verify_tx(tx, b"\1" * 32)


def test_a_transfer_pays_its_fee_and_advances_the_sequence() -> None:
    """Fee to the collector, amount to the recipient, next sequence."""
    net = Net()
    before = bank.balance(net.state, ALICE.address)
    assert net.deliver(txs.Send(BOB.address, "5"), 0).code == "ok"
    assert bank.balance(net.state, ALICE.address) == before - 5 - GAS
    assert bank.balance(net.state, BOB.address) == 5
    assert bank.balance(net.state, bank.FEE_COLLECTOR) == GAS
    assert bank.sequence(net.state, ALICE.address) == 1


@pytest.mark.parametrize(("key", "sequence", "code"), [(ALICE, 1, "sequence"), (BOB, 0, "fee")])
def test_a_transaction_that_cannot_pay_changes_nothing(key: WalletKey, sequence: int, code: str) -> None:
    """Wrong sequence or no money for the fee: the state is untouched, and the mempool says the same."""
    net = Net()
    before = net.root()
    assert net.deliver(txs.Send(ALICE.address, "1"), sequence, key).code == code
    assert net.root() == before
    with pytest.raises(LedgerError) as refusal:
        net.ledger.check_tx(net.state, net.tx(txs.Send(ALICE.address, "1"), sequence, key), None)
    assert refusal.value.code == code


def test_a_failed_message_keeps_fee_and_sequence_only() -> None:
    """Effects of a refused message are gone; its fee is not."""
    net = Net()
    result = net.deliver(txs.Send(BOB.address, str(1000 * STOS)), 0)
    assert (result.code, result.events) == ("funds", ())
    assert bank.balance(net.state, bank.FEE_COLLECTOR) == GAS
    assert bank.sequence(net.state, ALICE.address) == 1
    assert bank.balance(net.state, BOB.address) == 0


def test_the_mempool_counts_waiting_transactions() -> None:
    """With transactions waiting, the next sequence is theirs plus one."""
    net = Net()
    net.ledger.check_tx(net.state, net.tx(txs.Send(BOB.address, "1"), 3), 3)
    with pytest.raises(LedgerError):
        net.ledger.check_tx(net.state, net.tx(txs.Send(BOB.address, "1"), 3), 4)


def test_money_cannot_be_sent_to_a_pool() -> None:
    """A pool is nobody's wallet."""
    assert Net().deliver(txs.Send(bank.UNISSUED_PREPAY, "1"), 0).code == "invalid"


def test_genesis_speaks_to_the_bridge() -> None:
    """Nodes, authorities and prepays of genesis appear as the events a running net would have made."""
    kinds = [event.kind for event in Net().genesis_events]
    assert kinds == ["meta_created", "meta_admitted"] * 4 + ["resource_created", "ozone_bought"]
    assert set(kinds) <= BRIDGE_KINDS


def test_a_report_is_told_to_the_bridge() -> None:
    """An accepted report is an event with its epoch, and anybody may submit it."""
    net = Net()
    result = net.deliver(net.signed(_report(500_000_000)), 0)
    assert result.code == "ok"
    assert attributes(result.events[0])["epoch"] == "1"
    assert queries.report(net.state, 1).receipts_root == b"r" * 32


def test_a_refused_report_is_final_and_told_once() -> None:
    """What a quorum signed and the chain refused may not succeed later: its rows were settled otherwise."""
    net = Net()
    too_much = net.signed(_report(10**16))
    first = net.deliver(too_much, 0)
    assert (first.code, first.events[0].kind) == ("ozone_limit", "report_refused")
    assert attributes(first.events[0]) == {"epoch": "1", "code": "ozone_limit"}
    again = net.deliver(too_much, 1)
    assert (again.code, again.events) == ("duplicate", ())
    assert net.deliver(net.signed(_report(500_000_000)), 2).code == "ok"


def test_junk_never_looks_like_a_refusal() -> None:
    """A report without a quorum, or a second submission of an accepted one, tells the bridge nothing."""
    net = Net()
    assert net.deliver(net.signed(_report(5), 2), 0).events == ()
    forged = txs.VolumeReport(1, (), b"r" * 32, (), tuple(txs.AuthoritySignature(k.address, b"x" * 64) for k in METAS))
    refused = net.deliver(forged, 1)
    assert (refused.code, refused.events) == ("quorum", ())
    accepted = net.signed(_report(5))
    assert net.deliver(accepted, 2).code == "ok"
    repeated = net.deliver(accepted, 3)
    assert (repeated.code, repeated.events) == ("epoch", ())


def test_actions_happen_once() -> None:
    """An action id is used once; a refused action is told and final; another one may follow."""
    net = Net()
    activate = net.signed(txs.SetEffectiveDeposit(1, NODE.address, str(STOS), ()))
    included = net.deliver(activate, 0)
    assert [event.kind for event in included.events] == ["action_included", "effective_deposit", "unsuspended"]
    assert net.deliver(activate, 1).code == "duplicate"
    refused = net.deliver(net.signed(txs.Unsuspend(2, NODE.address, ())), 2)
    assert (refused.code, refused.events[0].kind) == ("invalid", "action_refused")
    assert net.deliver(net.signed(txs.Suspend(3, NODE.address, ())), 3).code == "ok"


def test_signatures_cover_the_whole_action() -> None:
    """Signatures for one node do not move another."""
    net = Net()
    signed = net.signed(txs.Suspend(1, NODE.address, ()))
    moved = txs.Slash(1, NODE.address, "5", False, signed.signatures)
    assert net.deliver(moved, 0).code == "quorum"


def test_a_node_key_must_agree_to_its_registration() -> None:
    """Nobody registers a key that is not his, and the agreement is for one owner."""
    net = Net()
    key = NodeKey(b"n" * 32)
    unsigned = txs.CreateResourceNode(key.public_key, str(STOS), ALICE.address, "n", "h", "", b"\0" * 64)
    assert net.deliver(unsigned, 0).code == "invalid"
    body = txs.registration_body(ALICE.address, unsigned)
    signature = key.sign(sign_bytes(txs.TAG_NODE, net.ledger.genesis_hash, body))
    agreed = txs.CreateResourceNode(key.public_key, str(STOS), ALICE.address, "n", "h", "", signature)
    assert net.deliver(agreed, 0, BOB).code == "fee"
    assert net.deliver(agreed, 1).code == "ok"


def test_events_of_the_blocks_beginning_reach_its_end() -> None:
    """Released deposits are told by end_block, and nothing of them stays in the state."""
    net = Net()
    bank.mint(net.state, BOB.address, GAS)
    assert net.deliver(txs.Unbond(NODE.address), 0, BOB).code == "ok"
    later = BlockContext(height=3, time_ms=194 * 86_400_000)
    net.ledger.begin_block(net.state, later)
    end = net.ledger.end_block(net.state, later)
    assert [event.kind for event in end.events] == ["unbonded"]
    assert not list(net.state.items(b"block/"))


def test_a_file_is_recorded_once() -> None:
    """The first record of a CID stays."""
    net = Net()
    message = txs.FileUpload(b"\x01\x66" + b"c" * 22)
    assert net.deliver(message, 0).code == "ok"
    assert net.deliver(message, 1).code == "duplicate"


def test_genesis_over_the_cap_is_refused() -> None:
    """A genesis may not list more than the initial supply."""
    account = GenesisAccount(address=ALICE.address, balance_wei=str(10**26))
    with pytest.raises(LedgerError, match="cap"):
        Ledger(Genesis(network="unit", time_ms=0, accounts=(account,))).init_genesis(Branch(MemoryStore()))


def test_withdrawals_may_go_to_another_wallet() -> None:
    """The recipient of a withdrawal is free, as on the public net."""
    net = Net()
    rewards.MATURE.set(net.state, ALICE.address, 9)
    bank.mint(net.state, bank.TOTAL_REWARD, 9)
    assert net.deliver(txs.Withdraw("9", BOB.address), 0).code == "ok"
    assert bank.balance(net.state, BOB.address) == 9
