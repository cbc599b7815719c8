"""One payout, verified from its receipts to the money, with nothing but the genesis file.

The chain of evidence, each link checked here and none believed because a node says so:

1. genesis -> the validators -> every header up to the newest, by certificates (`bft.light`), with each block's bridge
   events under its bridge root, so the meta authorities at any height are known too;
2. the report of the epoch: in a block whose header was just checked, signed by a quorum of those authorities;
3. the node's row -> its receipts: Merkle path to the report's root, deltas that add up, the earner's signature on every
   receipt, and the payer's wherever the meta layer can still prove the session that it signed with;
4. the report's record and the wallet's payout: values in the chain's state under a checked header's root;
5. the payout is what protocol 5 gives for that row.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol, TypeVar

from msgspec import Struct

from orchestrator.audit.rational import product, quotient, trunc
from orchestrator.errors import BadInput, VerdictFailed
from orchestrator.rewards.receipts import receipts_defect, row_receipts
from orchestrator.rewards.register import CertifiedRegister, Registered
from orchestrator.rewards.sessions import PayerKeys
from stratos.bft.blocks import entries_root, header_hash
from stratos.bft.light import LightClient, LightClientError
from stratos.bft.quorum import quorum
from stratos.bft.validator_set import ValidatorSet
from stratos.client.errors import Refused
from stratos.crypto import bech32
from stratos.crypto.keys import verify_node
from stratos.crypto.signing import sign_bytes
from stratos.ledger import pot, rewards, staking
from stratos.ledger.machine import Ledger
from stratos.ledger.roots import bridge_root
from stratos.state import Branch, MemoryStore, StateProof, verify_state_proof
from stratos.wire.block import CommittedBlock, Header, ValidatorChange
from stratos.wire.chainrpc import MAX_BRIDGE_BLOCKS, BridgeBlocks, GetBlock, GetBridge, GetProof, ProofAnswer
from stratos.wire.codec import decode, encode
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.metalog import ChainBlock
from stratos.wire.receipts import DOWNLOAD, TAG_RECEIPT
from stratos.wire.txs import TAG_ACTION, Tx, VolumeReport, action_body

R = TypeVar("R", bound=Struct)
LAYER = "value"
EPOCHS_SHOWN = 8


class Network(Protocol):
    """Who answers (`stratos.client.observer.Observer`); nothing it says is believed."""

    def ask_validator(self, request: Struct, kind: type[R]) -> R: ...

    def ask_meta(self, request: Struct, kind: type[R]) -> R: ...


class Link(Struct, frozen=True):
    """One verified link of the evidence, in words."""

    name: str
    detail: str


class PayoutProof(Struct, frozen=True):
    """A verified payout. Amounts are the wallet's in that epoch; `volume_noz` is the node's row."""

    node: str
    wallet: str
    epoch: int
    height: int
    volume_noz: int
    total_noz: int
    receipts: int
    payer_signatures: int
    mining_wei: int
    traffic_wei: int
    links: tuple[Link, ...]


class Walk(Struct, frozen=True):
    """What following the headers from genesis established."""

    headers: dict[int, Header]
    light: LightClient
    register: CertifiedRegister
    authorities: tuple[Registered, ...]
    """Meta nodes that were active when the report was included."""
    report_height: int


def prove_payout(genesis: Genesis, network: Network, *, node: str, epoch: int) -> PayoutProof:
    """Verify one payout; raises BadInput when there is none to verify, VerdictFailed at the first link that breaks."""
    links: list[Link] = []
    walk = _walk(genesis, network, epoch)
    named = walk.register.find(node)
    newest = max(walk.headers)
    links.append(Link("headers", f"{newest} headers follow from genesis by certificates of more than 2/3"))
    report = _report(network, walk, epoch)
    signers = _signers(genesis, report, walk.authorities)
    links.append(
        Link("report", f"in block {walk.report_height}, signed by {signers} of {len(walk.authorities)} authorities")
    )
    rows = [row for row in report.rows if row.node == named.address]
    shares = named in walk.authorities and named.address not in report.withheld
    if not rows and not shares:
        raise BadInput(
            f"node {node!r} has no row in the report of epoch {epoch} and no share of it, so nothing was paid; "
            "name another node or epoch"
        )
    wallet = rows[0].wallet if rows else named.wallet
    volume = sum(int(row.volume_noz) for row in rows)
    receipts = payers = 0
    if rows:
        receipts, payers = _receipts(genesis, network, report, named, volume)
        detail = (
            f"{receipts} make the row's {volume:,} noz, all signed by the earner, {payers} shown to be by the payer"
        )
        links.append(Link("receipts", detail))
    light = walk.light
    record = decode(_state(network, light, pot.REPORTS.prefix + rewards.epoch_key(epoch)), pot.ReportRecord)
    if record.receipts_root != report.receipts_root:
        raise VerdictFailed(
            f"the chain's record of epoch {epoch} has another receipts root than the report in its block"
        )
    paid = decode(_state(network, light, rewards.PAID.prefix + rewards.epoch_key(epoch) + wallet), rewards.PaidReward)
    links.append(Link("state", "report and payout are in the state under a certified root"))
    expected = _expected(genesis, report, record, walk.authorities, wallet)
    if (int(paid.mining_wei), int(paid.traffic_wei)) != expected:
        raise VerdictFailed(
            f"epoch {epoch} paid {paid.mining_wei} + {paid.traffic_wei} wei to {node}'s wallet, the rules give "
            f"{expected[0]} + {expected[1]}; run `stratosctl audit`"
        )
    links.append(Link("payout", f"mining {paid.mining_wei} wei, traffic {paid.traffic_wei} wei, as the rules give"))
    return PayoutProof(
        node=node,
        wallet=bech32.encode(bech32.WALLET, wallet),
        epoch=epoch,
        height=walk.report_height,
        volume_noz=volume,
        total_noz=int(record.volume_noz),
        receipts=receipts,
        payer_signatures=payers,
        mining_wei=int(paid.mining_wei),
        traffic_wei=int(paid.traffic_wei),
        links=tuple(links),
    )


def _walk(genesis: Genesis, network: Network, epoch: int) -> Walk:
    """Follow headers and bridge events from genesis to the newest block."""
    light = _light_client(genesis)
    register = CertifiedRegister(genesis)
    headers: dict[int, Header] = {}
    at_report: tuple[Registered, ...] = ()
    report_height = 0
    reported: list[int] = []
    for block in _bridge(network, genesis.initial_height):
        header = block.header
        try:
            light.check(header, block.commit)
        except LightClientError as error:
            raise VerdictFailed(f"header {header.height} is not certified: {error}") from error
        if bridge_root(block.events) != header.bridge_root:
            raise VerdictFailed(f"the events told of block {header.height} are not those under its bridge root")
        # A report counts the authorities as they were before anything else in its block changed them.
        before = register.active
        for event in block.events:
            told = dict(event.attributes)
            if event.kind == "report_included":
                reported.append(int(told["epoch"]))
                if reported[-1] == epoch:
                    report_height, at_report = header.height, before
            register.apply(event)
        headers[header.height] = header
        if header.next_validators_hash != header.validators_hash:
            light.follow([ValidatorChange(header, block.commit, block.next_validators)])
    if not report_height:
        newest = ", ".join(str(one) for one in reported[-EPOCHS_SHOWN:])
        there = (
            f"name one of the newest: {newest}" if newest else "there is none yet, so wait for an epoch with traffic"
        )
        raise BadInput(f"no report of epoch {epoch} is on the chain; {there}")
    return Walk(headers, light, register, at_report, report_height)


def _light_client(genesis: Genesis) -> LightClient:
    ledger, state = Ledger(genesis), Branch(MemoryStore())
    ledger.init_genesis(state)
    return LightClient(
        layer=LAYER,
        genesis_hash=genesis_hash(genesis),
        validators=ValidatorSet(staking.voters(state)),
        verify=verify_node,
    )


def _bridge(network: Network, first: int) -> Iterator[ChainBlock]:
    while True:
        answer = network.ask_validator(GetBridge(first, MAX_BRIDGE_BLOCKS, 0), BridgeBlocks)
        if not answer.blocks:
            return
        for block in answer.blocks:
            if block.header.height != first:
                raise VerdictFailed(
                    f"block {block.header.height} came where {first} was asked for; ask another validator"
                )
            yield block
            first += 1


def _report(network: Network, walk: Walk, epoch: int) -> VolumeReport:
    """The report out of its block, whose entries are under the certified header."""
    block = network.ask_validator(GetBlock(walk.report_height), CommittedBlock).block
    certified = walk.headers[walk.report_height]
    if header_hash(block.header) != header_hash(certified) or entries_root(block.entries) != certified.entries_root:
        raise VerdictFailed(f"block {walk.report_height} as told is not the certified one; ask another validator")
    for entry in block.entries:
        message = decode(entry, Tx).body.message
        if isinstance(message, VolumeReport) and message.epoch == epoch:
            return message
    raise VerdictFailed(f"block {walk.report_height} says that it included epoch {epoch}, and has no such report")


def _signers(genesis: Genesis, report: VolumeReport, authorities: tuple[Registered, ...]) -> int:
    """How many distinct authorities signed; VerdictFailed below the quorum."""
    signed = sign_bytes(TAG_ACTION, genesis_hash(genesis), action_body(report))
    keys = {one.address: one.public_key for one in authorities}
    valid = {
        one.authority
        for one in report.signatures
        if one.authority in keys and verify_node(keys[one.authority], signed, one.signature)
    }
    if len(valid) < quorum(len(authorities)):
        raise VerdictFailed(
            f"the report of epoch {report.epoch} has {len(valid)} valid signatures of {len(authorities)} authorities; "
            f"{quorum(len(authorities))} are needed"
        )
    return len(valid)


def _receipts(
    genesis: Genesis, network: Network, report: VolumeReport, node: Registered, volume: int
) -> tuple[int, int]:
    """(receipts behind a node's row, those whose payer's key is proven), all signatures checked."""
    answer = row_receipts(network, report.epoch, node.address)
    defect = receipts_defect(answer, node=node.address, receipts_root=report.receipts_root)
    if defect or answer.leaf.volume_noz != volume:
        raise VerdictFailed(
            f"the receipts of epoch {report.epoch} prove nothing: {defect or 'they are of another volume'}"
        )
    payers, proven = PayerKeys(genesis, network), 0
    for settled in answer.receipts:
        body = settled.receipt.body
        signed = sign_bytes(TAG_RECEIPT, genesis_hash(genesis), encode(body))
        own, other = settled.receipt.giver_signature, settled.receipt.taker_signature
        if body.kind != DOWNLOAD:
            own, other = other, own
        if not verify_node(node.public_key, signed, own):
            raise VerdictFailed(f"a receipt of task {body.task.hex()} is not signed by its earner")
        payer = payers.key(body)
        if payer is not None:
            if not verify_node(payer, signed, other):
                raise VerdictFailed(f"a receipt of task {body.task.hex()} is not signed by its payer")
            proven += 1
    return len(answer.receipts), proven


def _state(network: Network, light: LightClient, key: bytes) -> bytes:
    """A value of the chain's state, proven against a certified header; VerdictFailed when it is not."""
    try:
        answer = network.ask_validator(GetProof(key), ProofAnswer)
        light.check(answer.header, answer.commit)
    except (Refused, LightClientError) as error:
        raise VerdictFailed(f"state key {key!r} could not be proven: {error}") from error
    proof = decode(answer.proof, StateProof)
    if answer.key != key or not verify_state_proof(answer.header.state_root, key, answer.value, proof):
        raise VerdictFailed(f"the proof of state key {key!r} does not lead to the certified root")
    if answer.value is None:
        raise VerdictFailed(f"state key {key!r} is proven to be absent: nothing was paid")
    return answer.value


def _expected(
    genesis: Genesis,
    report: VolumeReport,
    record: pot.ReportRecord,
    authorities: tuple[Registered, ...],
    wallet: bytes,
) -> tuple[int, int]:
    """(mining, traffic) wei that protocol 5 gives a wallet, from the parts in the report's record."""
    tax = Fraction(genesis.ledger.pot.community_tax)
    total = int(record.volume_noz)
    mining = traffic = 0
    for row in report.rows:
        if row.wallet == wallet:
            share = quotient(int(row.volume_noz), total)
            gross = product(int(record.traffic_resource_wei), share)
            mining += trunc(product(int(record.mining_resource_wei), share))
            traffic += trunc(gross - product(gross, tax))
    for one in authorities:
        if one.wallet == wallet and one.address not in report.withheld:
            gross = quotient(int(record.traffic_meta_wei), len(authorities))
            mining += trunc(quotient(int(record.mining_meta_wei), len(authorities)))
            traffic += trunc(gross - product(gross, tax))
    return mining, traffic
