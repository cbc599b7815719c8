"""Four meta node processes over one validator: entries, proofs, the first settled epoch, and life without one of them."""

import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from validator_net import STOS, free_ports, wait_until

from stratos.bft.light import LightClient
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keyfile import save_key
from stratos.crypto.keys import NodeKey, WalletKey, verify_node
from stratos.meta.entries import sign_entry, sign_receipt
from stratos.meta.rooms import ALLOTMENT, SESSION
from stratos.net.blocking import BlockingRpcClient
from stratos.net.peers import RpcError, RpcRefused
from stratos.state import StateProof, verify_state_proof
from stratos.wire.block import Validator
from stratos.wire.codec import decode, encode
from stratos.wire.config import NodeConfig, PeerEntry, Ports, dump_config
from stratos.wire.genesis import (
    ConsensusParams,
    Genesis,
    GenesisAccount,
    GenesisNode,
    GenesisPrepay,
    GenesisValidator,
    MetaParams,
    genesis_hash,
)
from stratos.wire.metalog import (
    CompleteUpload,
    EntryBody,
    FileRecord,
    HeldIndices,
    NodeStatus,
    OpenSession,
    Place,
    SliceSpec,
)
from stratos.wire.metarpc import (
    Balance,
    EntryOutcome,
    EpochReceipts,
    Evidence,
    FileAnswer,
    GetBalance,
    GetEpochReceipts,
    GetEvidence,
    GetFile,
    GetNetwork,
    GetOzone,
    GetPlacement,
    GetSessionTokens,
    Network,
    OzoneSheet,
    PlacementAnswer,
    SessionTokens,
    SubmitEntry,
)
from stratos.wire.receipts import UPLOAD, ReceiptBody, indices_digest

HOLDERS = 5
LENGTH = 1_000_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class MetaNet:
    """One validator and four meta nodes as processes; the holders are keys that the test speaks for."""

    def __init__(self, folder: Path) -> None:
        self.user = WalletKey.generate()
        self.validator = NodeKey.generate()
        self.metas = [NodeKey.generate() for _ in range(4)]
        self.holders = [NodeKey.generate() for _ in range(HOLDERS)]
        wallets = [WalletKey.generate() for _ in range(5)]
        owners = [WalletKey.generate() for _ in range(HOLDERS)]
        pace = ConsensusParams(block_seconds=0.4, propose_timeout_seconds=0.5)
        self.genesis = Genesis(
            network="metatest",
            time_ms=now_ms(),
            # The heart of these holders beats in one thread, which may be slow: nobody is to be missed here.
            meta=MetaParams(epoch_seconds=4.0, status_seconds=60.0),
            value_consensus=pace,
            meta_consensus=pace,
            accounts=tuple(
                GenesisAccount(address=wallet.address, balance_wei=str(1_000 * STOS))
                for wallet in (self.user, *wallets)
            ),
            validators=(
                GenesisValidator(
                    operator=wallets[0].address, node_public_key=self.validator.public_key, stake_wei=str(STOS)
                ),
            ),
            meta_nodes=tuple(
                GenesisNode(
                    owner=wallet.address,
                    beneficiary=wallet.address,
                    node_public_key=key.public_key,
                    deposit_wei=str(100 * STOS),
                    effective_wei=str(100 * STOS),
                )
                for key, wallet in zip(self.metas, wallets[1:], strict=True)
            ),
            resource_nodes=tuple(
                GenesisNode(
                    owner=wallet.address,
                    beneficiary=wallet.address,
                    node_public_key=key.public_key,
                    deposit_wei=str(800 * STOS),
                    effective_wei=str(800 * STOS),
                )
                for key, wallet in zip(self.holders, owners, strict=True)
            ),
            prepays=(
                GenesisPrepay(sender=self.user.address, beneficiary=self.user.address, amount_wei=str(100 * STOS)),
            ),
        )
        self.hash = genesis_hash(self.genesis)
        self.ports = free_ports(10)
        names = ["validator", "meta-1", "meta-2", "meta-3", "meta-4"]
        keys = [self.validator, *self.metas]
        entries = [
            PeerEntry(
                name=name,
                role="meta" if index else "validator",
                public_key=keys[index].public_key.hex(),
                endpoint=f"127.0.0.1:{self.ports[index]}",
            )
            for index, name in enumerate(names)
        ]
        self.homes = [folder / name for name in names]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * 5
        for index, home in enumerate(self.homes):
            home.mkdir()
            (home / "genesis.json").write_bytes(msgspec.json.encode(self.genesis))
            config = NodeConfig(
                name=names[index],
                role="meta" if index else "validator",
                network_address=entries[index].endpoint,
                ports=Ports(p2p=self.ports[index], http=self.ports[5 + index]),
                peers=tuple(e for e in entries[1:] if e.name != names[index]) if index else (),
                validators=(entries[0],),
                meta=tuple(entries[1:]),
            )
            (home / "config.json").write_bytes(dump_config(config))
            save_key(home / "node.key", keys[index])
            save_key(home / "wallet.key", wallets[index])
        self._beating = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "MetaNet":
        try:
            for index in range(5):
                self.spawn(index)
            for index in range(5):
                self.wait_ready(index)
            self._heart.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def spawn(self, index: int) -> None:
        (self.homes[index] / "ready.json").unlink(missing_ok=True)
        self.processes[index] = subprocess.Popen(
            [sys.executable, "-m", "stratos.node", "run", "--home", str(self.homes[index])], stdin=subprocess.DEVNULL
        )

    def wait_ready(self, index: int) -> None:
        wait_until((self.homes[index] / "ready.json").exists, seconds=120, what=f"node {index} serves")

    def kill(self, index: int) -> None:
        process = self.processes[index]
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.processes[index] = None

    def stop(self) -> None:
        self._beating.set()
        for process in self.processes:
            if process is not None:
                process.terminate()
        for process in self.processes:
            if process is not None:
                process.wait(timeout=120)

    def client(self, meta: int) -> BlockingRpcClient:
        """A guest at meta node 1..4."""
        return BlockingRpcClient(
            "127.0.0.1",
            self.ports[meta],
            expected_key=self.metas[meta - 1].public_key,
            identity=NodeKey.generate(),
            peer_class="client",
            genesis_hash=self.hash,
        )

    def submit(self, client: BlockingRpcClient, body: EntryBody, key: WalletKey | NodeKey) -> EntryOutcome:
        entry = sign_entry(body, key=key, genesis_hash=self.hash, nonce=secrets.token_bytes(16), time_ms=now_ms())
        return client.call(SubmitEntry(encode(entry)), EntryOutcome, timeout_seconds=120)

    def ordered(self, client: BlockingRpcClient, body: EntryBody, key: WalletKey | NodeKey) -> EntryOutcome:
        outcome = self.submit(client, body, key)
        assert (outcome.code, outcome.error) == ("ok", "") and outcome.height > 0
        return outcome

    def status(self, meta: int) -> dict[str, str]:
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{self.ports[5 + meta]}/status", timeout=60) as answer:
            document: dict[str, str] = json.load(answer)
            return document

    def _beat(self) -> None:
        """Heartbeats of all holders, through whichever meta node answers."""
        meta = 1
        while not self._beating.is_set():
            try:
                with self.client(meta) as client:
                    while not self._beating.wait(0.7):
                        for key in self.holders:
                            self.submit(client, NodeStatus(10**12, 0, 0, False, "", ""), key)
            except (RpcError, OSError):
                meta = meta % 4 + 1
                self._beating.wait(0.1)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetaNet]:
    with MetaNet(tmp_path_factory.mktemp("meta")) as running:
        with running.client(1) as client:
            wait_until(lambda: active(client) == HOLDERS, seconds=120, what="all holders are active")
        yield running


def active(client: BlockingRpcClient) -> int:
    holders = client.call(GetNetwork(), Network).holders
    return sum(holder.status == "active" for holder in holders)


class Uploader:
    """A session at one meta node that stores slices with the holders' signatures."""

    def __init__(self, net: MetaNet, client: BlockingRpcClient) -> None:
        self.net = net
        self.client = client
        self.key = NodeKey.generate()
        opened = net.ordered(client, OpenSession(self.key.public_key, 10**8, 10**6, now_ms() + 600_000), net.user)
        self.session = opened.entry_hash[:16]

    def put(self, reader: BlockingRpcClient | None = None) -> FileRecord:
        """Place a slice (asking `reader` for the lottery), sign for all its holders, complete."""
        net, upload = self.net, secrets.token_bytes(16)
        spec = SliceSpec(secrets.token_bytes(32), LENGTH)
        net.ordered(self.client, Place(self.session, upload, 0, (spec,), 0, 0), self.key)
        answer = (reader or self.client).call(GetPlacement(upload, 0), PlacementAnswer, timeout_seconds=120)
        by_address = {key.address: key for key in net.holders}
        held = []
        for holder in answer.token.placement.slices[0].holders:
            body = ReceiptBody(UPLOAD, upload, holder, answer.stamp.epoch, LENGTH, indices_digest([0]))
            receipt = sign_receipt(body, giver=self.key, taker=by_address[holder], genesis_hash=net.hash)
            held.append(HeldIndices(receipt, (0,)))
        cid = b"\x01\x66\x1b\x14" + secrets.token_bytes(20)
        file = FileRecord(cid, "f", LENGTH, "", False, b"", (0,))
        net.ordered(self.client, CompleteUpload(self.session, upload, tuple(held), (file,)), self.key)
        return file


def test_an_upload_through_one_node_is_seen_at_another(net: MetaNet) -> None:
    """What is ordered through one meta node is answered by any other, with four copies."""
    with net.client(1) as one, net.client(2) as two:
        file = Uploader(net, one).put(two)
        wait_until(lambda: has_file(two, net, file), seconds=120, what="the second node knows the file")
        answer = two.call(GetFile(net.user.address, file.file_cid), FileAnswer)
        assert answer.complete and len(answer.slices[0].holders) == 4


def has_file(client: BlockingRpcClient, net: MetaNet, file: FileRecord) -> bool:
    try:
        client.call(GetFile(net.user.address, file.file_cid), FileAnswer)
    except RpcRefused:
        return False
    return True


def test_session_tokens_prove_themselves_from_genesis(net: MetaNet) -> None:
    """A holder believes a token with nothing but the genesis authorities: header, certificate and both state proofs."""
    with net.client(3) as client:
        uploader = Uploader(net, client)
        tokens = client.call(GetSessionTokens(uploader.session, ()), SessionTokens).tokens
    assert len(tokens) == HOLDERS
    voters = ValidatorSet(Validator(key.address, key.public_key, 1) for key in net.metas)
    light = LightClient(layer="meta", genesis_hash=net.hash, validators=voters, verify=verify_node)
    for token in tokens:
        light.check(token.evidence.header, token.evidence.commit)
        root = token.evidence.header.state_root
        session_proof = decode(token.session_proof, StateProof)
        assert verify_state_proof(root, SESSION.prefix + uploader.session, encode(token.session), session_proof)
        key = ALLOTMENT.prefix + uploader.session + token.holder
        assert verify_state_proof(root, key, encode(token.allotment), decode(token.allotment_proof, StateProof))
        assert token.allotment.allotted_noz == 10**6 // HOLDERS


def test_refusals_are_answered_at_once_and_never_ordered(net: MetaNet) -> None:
    """No ozone, a wrong signature, junk: one code and sentence, height 0."""
    stranger = WalletKey.generate()
    with net.client(4) as client:
        body = OpenSession(NodeKey.generate().public_key, 10, 0, now_ms() + 60_000)
        poor = net.submit(client, body, stranger)
        assert (poor.code, poor.height) == ("funds", 0) and "prepay" in poor.error
        foreign = sign_entry(body, key=net.user, genesis_hash=b"x" * 32, nonce=b"n" * 16, time_ms=now_ms())
        wrong = client.call(SubmitEntry(encode(foreign)), EntryOutcome)
        assert (wrong.code, wrong.height) == ("signature", 0)
        junk = client.call(SubmitEntry(b"junk"), EntryOutcome)
        assert (junk.code, junk.height) == ("invalid", 0)
        assert client.call(GetBalance(stranger.address), Balance).available_noz == 0


def test_the_same_entry_at_two_nodes_is_ordered_once(net: MetaNet) -> None:
    """A client that retries the same bytes elsewhere gets the outcome of the one ordering."""
    key = NodeKey.generate()
    body = OpenSession(key.public_key, 10, 0, now_ms() + 60_000)
    entry = encode(
        sign_entry(body, key=net.user, genesis_hash=net.hash, nonce=secrets.token_bytes(16), time_ms=now_ms())
    )
    with net.client(1) as one, net.client(2) as two:
        first = one.call(SubmitEntry(entry), EntryOutcome, timeout_seconds=120)
        again = two.call(SubmitEntry(entry), EntryOutcome, timeout_seconds=120)
    assert first.code == "ok"
    assert (again.code, again.height) in (("ok", first.height), ("nonce", 0))


def test_traffic_is_settled_on_the_chain_and_a_dead_node_stops_nothing(net: MetaNet) -> None:
    """With one of four meta nodes killed, uploads go on and epochs are reported and included; restarted, it catches up to
    the same roots. The rows of a report rest on receipts that any node proves."""
    with net.client(1) as client:
        uploader = Uploader(net, client)
        uploader.put()
        before = client.call(GetOzone(), OzoneSheet)
        net.kill(4)
        for _ in range(3):
            uploader.put()
        wait_until(
            lambda: client.call(GetOzone(), OzoneSheet).epochs_settled > before.epochs_settled,
            seconds=120,
            what="an epoch is settled with three authorities",
        )
        sheet = client.call(GetOzone(), OzoneSheet)
        assert sheet.reported > before.reported
        parts = (sheet.balances, sheet.reserved, sheet.repair_reserve, sheet.unsettled, sheet.reported)
        assert sheet.sold == sum(parts)
        proven = [
            client.call(GetEpochReceipts(epoch, key.address), EpochReceipts)
            for epoch in range(1, sheet.stamp.epoch)
            for key in net.holders
            if row_exists(client, epoch, key)
        ]
        assert proven and all(sum(r.delta_noz for r in p.receipts) == p.leaf.volume_noz for p in proven)
        net.spawn(4)
        net.wait_ready(4)
        target = client.call(GetEvidence(0), Evidence).header
        wait_until(
            lambda: int(net.status(4)["height"]) >= target.height, seconds=120, what="the restarted node catches up"
        )
    with net.client(4) as back:
        assert back.call(GetEvidence(target.height), Evidence).header == target
        Uploader(net, back).put()


def row_exists(client: BlockingRpcClient, epoch: int, key: NodeKey) -> bool:
    try:
        client.call(GetEpochReceipts(epoch, key.address), EpochReceipts)
    except RpcRefused:
        return False
    return True
