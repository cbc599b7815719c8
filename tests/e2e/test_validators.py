"""Four validator processes: they agree, survive kill -9, prove what they say, and refuse to start wrongly."""

import base64
import itertools
import json
import random
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from validator_net import ValidatorNet, wait_until

from stratos.bft.light import LightClient, LightClientError
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import NodeKey, WalletKey, verify_node
from stratos.ledger import staking
from stratos.ledger.machine import Ledger
from stratos.net.blocking import BlockingRpcClient, connect_tls
from stratos.net.frames import HEADER
from stratos.net.peers import PeerUnreachable, RpcError, RpcRefused
from stratos.state import State, StateProof, verify_state_proof
from stratos.wire.chainrpc import (
    Account,
    BridgeBlocks,
    ChainStatus,
    GetAccount,
    GetBridge,
    GetChainStatus,
    GetHeader,
    HeaderAnswer,
    ProofAnswer,
    SubmitTxs,
    TxRecord,
    TxVerdicts,
    WaitTx,
)
from stratos.wire.codec import decode, encode
from stratos.wire.genesis import ConsensusParams, Genesis
from stratos.wire.rpc import CLASS_CLIENT, CLASS_NODE
from stratos.wire.txs import Send

QUICK = ConsensusParams(block_seconds=0.5, propose_timeout_seconds=1.0)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValidatorNet]:
    """Four validators that the tests which kill nobody share. Account n is used by the test that says so."""
    with ValidatorNet(tmp_path_factory.mktemp("net"), consensus=QUICK) as running:
        wait_until(
            lambda: all(running.height(index) >= 1 for index in range(len(running.processes))),
            seconds=120,
            what="a first block on every validator",
        )
        yield running


def submit(client: BlockingRpcClient, *raws: bytes) -> list[str]:
    """Codes of the verdicts."""
    return [verdict.code for verdict in client.call(SubmitTxs(raws), TxVerdicts).verdicts]


def roots_at(net: ValidatorNet, height: int) -> set[str]:
    """State roots that the nodes' headers of one height carry."""
    return {
        net.get(index, f"/stratos/header/{height}")["header"]["state_root"]
        for index in range(net.size)
        if net.height(index) >= height
    }


def genesis_validators(genesis: Genesis) -> ValidatorSet:
    """The first validators, from the genesis file alone."""
    branch = State().fork()
    Ledger(genesis).init_genesis(branch)
    return ValidatorSet(staking.voters(branch))


def test_transfers_given_to_any_node_are_committed_by_all(net: ValidatorNet) -> None:
    """Transactions submitted to each of four nodes end in the same state on all of them, to the wei."""
    recipient = WalletKey.generate()
    hashes = []
    for index in range(net.size):
        with net.client(index) as client:
            raws = tuple(net.sign(index, Send(recipient.address, "7"), sequence) for sequence in range(5))
            answer = client.call(SubmitTxs(raws), TxVerdicts)
            assert [verdict.code for verdict in answer.verdicts] == ["ok"] * 5
            hashes += [verdict.tx_hash for verdict in answer.verdicts]
    with net.client(0) as client:
        records = [client.call(WaitTx(tx_hash, 20_000), TxRecord, timeout_seconds=120) for tx_hash in hashes]
    assert {record.result.code for record in records} == {"ok"}
    height = max(record.height for record in records)
    wait_until(lambda: all(net.height(index) >= height for index in range(net.size)), seconds=120, what="all at height")
    assert len(roots_at(net, height)) == 1
    for index in range(net.size):
        with net.client(index) as client:
            assert client.call(GetAccount(recipient.address), Account).balance_wei == str(7 * 5 * net.size)


def test_a_value_is_proved_with_nothing_but_the_genesis_file(net: ValidatorNet) -> None:
    """Validator changes, header, certificate and state proof from an untrusted node convince a client that has only
    the genesis file; a changed value, an absent key claimed present, or a header of nobody does not."""
    present = net.wallets[8].address
    absent = WalletKey.generate().address
    changes = net.get(1, "/stratos/validator_changes")["changes"]
    assert changes == []
    for address, expected in ((present, b"%d" % (10_000 * 10**18)), (absent, None)):
        document = net.get(1, f"/stratos/proof/bank/balance/{address.hex()}")
        answer = decode(base64.b64decode(document["encoded"]), ProofAnswer)
        assert answer.value == expected
        trusted = LightClient(
            layer="value",
            genesis_hash=net.genesis_hash,
            validators=genesis_validators(net.genesis),
            verify=verify_node,
        )
        trusted.check(answer.header, answer.commit)
        proof = decode(answer.proof, StateProof)
        root = answer.header.state_root
        assert verify_state_proof(root, answer.key, answer.value, proof)
        assert not verify_state_proof(root, answer.key, b"1", proof)
        stranger = LightClient(
            layer="value",
            genesis_hash=b"\1" * 32,
            validators=genesis_validators(net.genesis),
            verify=verify_node,
        )
        with pytest.raises(LightClientError):
            stranger.check(answer.header, answer.commit)


def test_refused_transactions_are_named_and_change_nothing(net: ValidatorNet) -> None:
    """A wrong signature, a used sequence, a repeat and junk each get their code, and the balance stays."""
    account = 9
    with net.client(2) as client:
        before = client.call(GetAccount(net.wallets[account].address), Account)
        good = net.sign(account, Send(net.wallets[0].address, "1"), 0)
        forged = good[:-1] + bytes([good[-1] ^ 1])
        foreign = net.sign(account, Send(net.wallets[0].address, "1"), 5_000)
        assert submit(client, forged, b"\x93\x01\x02\x03", foreign) == ["signature", "invalid", "sequence"]
        assert client.call(GetAccount(net.wallets[account].address), Account).balance_wei == before.balance_wei
        assert submit(client, good) == ["ok"]
        assert submit(client, good) == ["duplicate"]
        client.call(WaitTx(_hash(good), 20_000), TxRecord, timeout_seconds=120)
        assert submit(client, net.sign(account, Send(net.wallets[0].address, "2"), 0)) == ["sequence"]


def test_a_transaction_ahead_of_its_sequence_waits_for_the_missing_one(net: ValidatorNet) -> None:
    """Out of order submission ends in order: both transactions are committed."""
    account = 10
    first, second = (net.sign(account, Send(net.wallets[0].address, "1"), sequence) for sequence in (0, 1))
    with net.client(3) as client:
        assert submit(client, second) == ["ok"]
        assert submit(client, first) == ["ok"]
        places = [client.call(WaitTx(_hash(raw), 20_000), TxRecord, timeout_seconds=120) for raw in (first, second)]
    assert [(place.height, place.index) for place in places] == sorted((place.height, place.index) for place in places)


def test_bridge_followers_get_every_height_in_order_without_asking_twice(net: ValidatorNet) -> None:
    """Long polls from height 1 on give consecutive blocks whose certificates the genesis validators signed."""
    trusted = LightClient(
        layer="value", genesis_hash=net.genesis_hash, validators=genesis_validators(net.genesis), verify=verify_node
    )
    with net.client(1) as client:
        wanted = 1
        target = client.call(GetChainStatus(), ChainStatus).height + 2
        while wanted <= target:
            answer = client.call(GetBridge(wanted, 8, 20_000), BridgeBlocks, timeout_seconds=120)
            for block in answer.blocks:
                assert block.header.height == wanted
                trusted.check(block.header, block.commit)
                wanted += 1


def test_junk_on_the_port_harms_nobody(net: ValidatorNet) -> None:
    """Plain bytes, frames over a guest's limit, unknown requests and a hello of another network are dropped; the node
    answers the next caller."""
    with socket.create_connection(("127.0.0.1", net.p2p_ports[0]), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    key = net.node_keys[0].public_key
    with connect_tls("127.0.0.1", net.p2p_ports[0], expected_key=key) as secure:
        secure.sendall(HEADER.pack(2**31, 1, 1) + b"x" * 100)
        received = bytearray()
        while data := secure.recv(65_536):
            received += data
        assert b"frame length" in received
    with pytest.raises(PeerUnreachable, match="expected"):
        connect_tls("127.0.0.1", net.p2p_ports[1], expected_key=key)
    with pytest.raises(RpcError):
        BlockingRpcClient("127.0.0.1", net.p2p_ports[0], expected_key=key, genesis_hash=b"\1" * 32)
    for peer_class in (CLASS_NODE, CLASS_CLIENT):
        stranger = NodeKey.generate()
        client = BlockingRpcClient(
            "127.0.0.1", net.p2p_ports[0], expected_key=key, identity=stranger, peer_class=peer_class
        )
        with client:
            if peer_class == CLASS_NODE:
                with pytest.raises(RpcRefused, match="may not connect as node"):
                    client.call(GetChainStatus(), ChainStatus)
            else:
                assert client.call(GetChainStatus(), ChainStatus).height >= 0
    guest = BlockingRpcClient("127.0.0.1", net.p2p_ports[0], expected_key=key)
    with guest, pytest.raises(RpcRefused, match="say hello first"):
        guest.call(SubmitTxs((b"x",)), TxVerdicts)


def test_a_validator_killed_under_load_comes_back_without_voting_twice(tmp_path: Path) -> None:
    """kill -9 at a random instant, three times, while transfers flow: the others go on, the killed one catches up, all
    roots are equal, everything accepted is committed once, and nobody has seen a double vote."""
    chance = random.Random()
    with ValidatorNet(tmp_path, consensus=QUICK) as net:
        sent = [0] * 4
        stop = threading.Event()
        loads = [threading.Thread(target=_keep_sending, args=(net, index, sent, stop)) for index in range(2)]
        for load in loads:
            load.start()
        try:
            for _ in range(3):
                victim = chance.choice((2, 3))
                reached = net.height(0)
                wait_until(
                    lambda reached=reached: net.height(0) > reached + 1, seconds=120, what="blocks before the kill"
                )
                stop.wait(chance.uniform(0, 0.2))
                net.kill(victim)
                reached = net.height(0)
                wait_until(lambda reached=reached: net.height(0) > reached + 2, seconds=120, what="blocks without it")
                net.spawn(victim)
                net.wait_ready(victim)
                reached = net.height(0)
                wait_until(
                    lambda victim=victim, reached=reached: net.height(victim) >= reached, seconds=120, what="caught up"
                )
        finally:
            stop.set()
            for load in loads:
                load.join(timeout=60)
        for index in range(2):
            with net.client(0) as client:
                wait_until(
                    lambda index=index, client=client: (
                        client.call(GetAccount(net.wallets[index].address), Account).sequence == sent[index]
                    ),
                    seconds=120,
                    what="all that was accepted is committed",
                )
        height = net.height(0)
        wait_until(
            lambda: all(net.height(index) >= height for index in range(4)), seconds=120, what="all at one height"
        )
        assert len(roots_at(net, height)) == 1
        assert all("double vote" not in net.log(index) for index in range(4))
        assert net.stop() == [0, 0, 0, 0]


def test_one_of_four_may_be_silent_two_may_not(tmp_path: Path) -> None:
    """With 3 of 4 up blocks come; with 2 none do; when the third returns they come again, without manual help."""
    with ValidatorNet(tmp_path, consensus=QUICK) as net:
        wait_until(lambda: net.height(0) >= 1, seconds=120, what="the first block")
        net.kill(3)
        reached = net.height(0)
        wait_until(lambda: net.height(0) > reached + 2, seconds=120, what="blocks with three")
        net.kill(2)
        # What the two still decide from votes cast before the kill is at most one block.
        after = net.height(0)
        with net.client(0) as client, pytest.raises(RpcRefused, match="no block"):
            client.call(GetHeader(after + 2), HeaderAnswer)
        net.spawn(2)
        net.wait_ready(2)
        wait_until(lambda: net.height(0) > after + 2, seconds=120, what="blocks with three again")


def test_a_node_that_cannot_start_says_why_and_how_to_mend_it(tmp_path: Path) -> None:
    """Port taken, store locked, store of another network, store of another version, bad config: an exit code and one
    sentence each."""
    net = ValidatorNet(tmp_path, size=1)
    home = net.homes[0]

    def attempt() -> tuple[int, str]:
        net.spawn(0)
        process = net.processes[0]
        assert process is not None
        code = process.wait(timeout=120)
        return code, net.log(0).splitlines()[-1]

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", net.p2p_ports[0]))
        taken.listen()
        code, sentence = attempt()
        assert code == 3
        assert f"cannot listen on 127.0.0.1:{net.p2p_ports[0]}" in sentence
        assert "choose another port" in sentence
    config = (home / "config.json").read_text()
    (home / "config.json").write_text(config.replace('"name"', '"nmae"'))
    code, sentence = attempt()
    assert code == 2
    assert "nmae" in sentence
    (home / "config.json").write_text(config)
    genesis = json.loads((home / "genesis.json").read_text())
    (home / "genesis.json").write_text(json.dumps({**genesis, "network": "another"}))
    code, sentence = attempt()
    assert code == 2
    assert "the store is of network" in sentence
    (home / "genesis.json").write_text(json.dumps({**genesis, "version": 99}))
    code, sentence = attempt()
    assert code == 2
    assert "genesis version 99" in sentence
    (home / "genesis.json").write_text(json.dumps(genesis))
    (home / "node.key").chmod(0o644)
    code, sentence = attempt()
    assert code == 2
    assert "chmod 600" in sentence
    (home / "node.key").chmod(0o600)
    net.spawn(0)
    net.wait_ready(0)
    first = net.processes[0]
    assert first is not None
    code, sentence = attempt()
    assert code == 3
    assert "is another process using it" in sentence
    first.terminate()
    assert first.wait(timeout=120) == 0
    wal = (home / "data" / "wal").read_bytes()
    (home / "data" / "wal").write_bytes(wal.replace(b"stratos write-ahead-log 1\n", b"stratos write-ahead-log 9\n"))
    code, sentence = attempt()
    assert code == 2
    assert "version 'stratos write-ahead-log 9' and this program reads 'stratos write-ahead-log 1'" in sentence
    (home / "data" / "wal").write_bytes(wal)
    store = Rdict(str(home / "data" / "chain"), Options(raw_mode=True))
    store[b"mversion"] = b"99"
    store.close()
    code, sentence = attempt()
    assert code == 2
    assert "store version '99'" in sentence


def _keep_sending(net: ValidatorNet, index: int, sent: list[int], stop: threading.Event) -> None:
    """One transfer after the other, of account `index` to node `index`; counts what was accepted."""
    with net.client(index) as client:
        for sequence in itertools.count():
            if stop.is_set():
                return
            raw = net.sign(index, Send(net.wallets[15].address, "1"), sequence)
            if submit(client, raw) == ["ok"]:
                sent[index] = sequence + 1
            else:
                return


def _hash(raw: bytes) -> bytes:
    from blake3 import blake3

    return blake3(raw).digest()


def test_encoded_records_round_trip(net: ValidatorNet) -> None:
    """The base64 form of a header over REST is byte for byte what its certificate signed."""
    document = net.get(0, "/stratos/header/1")
    from stratos.bft.blocks import header_hash
    from stratos.wire.block import SignedHeader

    signed = decode(base64.b64decode(document["encoded"]), SignedHeader)
    assert header_hash(signed.header) == signed.commit.block_hash
    assert base64.b64decode(document["encoded"]) == encode(signed)
