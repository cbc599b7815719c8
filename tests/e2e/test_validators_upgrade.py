"""Four validator processes cross a change of the rules under load; one of them begins with a program that lacks it."""

import base64
import itertools
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from validator_net import STOS, ValidatorNet, wait_until

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.ledger import rulebook
from stratos.ledger.events import attributes
from stratos.ledger.rulebook import NEWEST_RULES, UP_TO_VARIABLE
from stratos.ledger.signing import sign_tx
from stratos.state import StateProof, verify_state_proof
from stratos.wire.block import EntryResult
from stratos.wire.chainrpc import Account, GetAccount, ProofAnswer, SubmitTxs, TxRecord, TxVerdicts, WaitTx
from stratos.wire.codec import decode, encode
from stratos.wire.genesis import ConsensusParams, GenesisNode, LedgerParams
from stratos.wire.txs import Message, Prepay, ProposeUpgrade, Send, VoteUpgrade

OLD = 3
"""The validator whose program knows rules up to version 1."""
PACE = ConsensusParams(block_seconds=0.5, min_block_seconds=0.1, propose_timeout_seconds=1.0)
AHEAD = 60
"""Blocks between the proposal and the height: at least six seconds at this pace."""


def crossing(folder: Path) -> ValidatorNet:
    """Four validators with ozone for sale."""
    owner = WalletKey.from_secret(b"o" * 32).address
    holder = GenesisNode(
        owner=owner,
        beneficiary=owner,
        node_public_key=NodeKey.from_seed(b"h" * 32).public_key,
        deposit_wei=str(STOS),
        effective_wei=str(STOS),
    )
    return ValidatorNet(
        folder,
        consensus=PACE,
        environments={OLD: {UP_TO_VARIABLE: "1"}},
        ledger=LedgerParams(upgrade_notice_blocks=5),
        resource_nodes=(holder,),
    )


def commit(net: ValidatorNet, wallet: WalletKey, message: Message) -> EntryResult:
    """Submit to the first validator and wait for the block."""
    with net.client(0) as client:
        sequence = client.call(GetAccount(wallet.address), Account).next_sequence
        raw = encode(sign_tx(wallet, message, sequence=sequence, genesis_hash=net.genesis_hash))
        [verdict] = client.call(SubmitTxs((raw,)), TxVerdicts).verdicts
        assert verdict.code == "ok", verdict
        return client.call(WaitTx(verdict.tx_hash, 20_000), TxRecord, timeout_seconds=120).result


class Load:
    """Accounts that send one transfer after the other until told to stop."""

    def __init__(self, net: ValidatorNet, accounts: int) -> None:
        self._net = net
        self._stop = threading.Event()
        self.sent = [0] * accounts
        self.refused: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(accounts)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _run(self, account: int) -> None:
        with self._net.client(account) as client:
            for sequence in itertools.count():
                if self._stop.wait(0.02):
                    return
                raw = self._net.sign(account, Send(self._net.wallets[15].address, "1"), sequence)
                [verdict] = client.call(SubmitTxs((raw,)), TxVerdicts).verdicts
                if verdict.code != "ok":
                    self.refused.append(verdict.error)
                    return
                self.sent[account] = sequence + 1


def status(net: ValidatorNet, index: int) -> dict[str, Any]:
    found: dict[str, Any] = net.get(index, "/status")
    return found


def vote_for_newest(net: ValidatorNet) -> int:
    """Three of four operators plan the newest rules; the height."""
    height = net.height(0) + AHEAD
    for index in range(3):
        address = net.node_keys[index].address
        about = (address, NEWEST_RULES, height)
        result = commit(net, net.owners[index], VoteUpgrade(*about, approve=True) if index else ProposeUpgrade(*about))
        assert result.code == "ok", result
    return height


def test_four_validators_change_rules_at_a_voted_height_under_load(tmp_path: Path) -> None:
    """The old program makes the same blocks up to the height and stops there with code 2 and the fix; the others go on under the
    new rule; with the new program the stopped one catches up; no accepted transaction is lost and the roots are equal."""
    dust = Prepay(WalletKey.generate().address, "1")
    with crossing(tmp_path) as net, Load(net, accounts=3) as load:
        assert [status(net, index)["newest_rules"] for index in range(4)] == [NEWEST_RULES] * 3 + [1]
        height = vote_for_newest(net)
        plan = net.get(0, "/stratos/upgrade/v1/plan")
        assert (plan["rules_version"], plan["plan"]["height"], plan["polls"]) == ("1", str(height), [])
        wait_until(lambda: status(net, OLD)["upgrade_plan"] is not None, seconds=60, what="the plan on the old one")
        bought = commit(net, net.wallets[9], dust)
        assert (bought.code, attributes(bought.events[0])["noz"]) == ("ok", "0")

        stopped = net.processes[OLD]
        assert stopped is not None
        assert stopped.wait(timeout=300) == 2
        sentence = net.log(OLD).splitlines()[-1]
        assert f"rules version 2 holds from height {height} on and this program knows versions up to 1" in sentence
        assert "install an image with rules version >= 2" in sentence
        net.spawn(OLD)
        again = net.processes[OLD]
        assert again is not None
        assert again.wait(timeout=120) == 2
        assert net.log(OLD).splitlines()[-1] == sentence

        wait_until(lambda: net.height(0) > height + 5, seconds=300, what="blocks of the new rules")
        refused = commit(net, net.wallets[9], dust)
        assert refused.code == "invalid"
        assert "would buy 0 noz" in refused.error

        del net.environments[OLD]
        net.spawn(OLD)
        net.wait_ready(OLD)
        reached = net.height(0)
        wait_until(lambda: net.height(OLD) >= reached, seconds=300, what="the new program caught up")
        assert (status(net, OLD)["rules_version"], status(net, OLD)["newest_rules"]) == (2, NEWEST_RULES)
        load.__exit__()
        assert load.refused == []
        with net.client(OLD) as client:
            for account, sent in enumerate(load.sent):
                assert sent > 0
                address = net.wallets[account].address
                wait_until(
                    lambda address=address, sent=sent: client.call(GetAccount(address), Account).sequence == sent,
                    seconds=120,
                    what="all that was accepted is committed",
                )
        for at in (height - 1, height, reached):
            roots = {net.get(index, f"/stratos/header/{at}")["header"]["state_root"] for index in range(4)}
            assert len(roots) == 1
        proof = decode(base64.b64decode(net.get(OLD, "/stratos/proof/upgrade/in_force")["encoded"]), ProofAnswer)
        assert proof.value is not None
        assert decode(proof.value, rulebook.InForce) == rulebook.InForce(2, height)
        assert verify_state_proof(proof.header.state_root, proof.key, proof.value, decode(proof.proof, StateProof))
        assert net.stop() == [0, 0, 0, 0]
