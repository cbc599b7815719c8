"""Who earned what: per node and per layer, from the chain's reports and payouts.

A payout on the chain belongs to a wallet; which node earned which part of it follows from the report's rows, worked out
by the oracle. So a wallet that serves several nodes is told apart, and a payout that is not what the rows say is counted
in `differences`, for which `audit` has the words. The validators' part is told by stake; what a validator can
claim now (with fees and proposer bonus) is its mature amount.
"""

from fractions import Fraction

from msgspec import Struct

from orchestrator.audit.evidence import ReportedRow
from orchestrator.audit.history import Oracle
from orchestrator.audit.rational import decimal18
from orchestrator.chain_api import ChainApi
from orchestrator.report.amounts import percent
from orchestrator.report.data import EpochFlow, NodeReward, PricePoint
from orchestrator.rewards.chain import ChainLedger, Validators
from stratos.crypto import bech32
from stratos.crypto.keys import node_address
from stratos.wire.genesis import Genesis

ROLES = ("resource", "meta", "validator")
SNAPSHOTS = 4
"""Attempts at reading history and wallets with no report in between; on a testnet, epochs may last seconds."""


class LayerReward(Struct, frozen=True):
    """What one layer earned in all epochs, wei."""

    mining_wei: int
    traffic_wei: int


class RewardTable(Struct, frozen=True):
    """The answer of `rewards`."""

    epochs: int
    height: int
    nodes: tuple[NodeReward, ...]
    layers: dict[str, LayerReward]
    flows: tuple[EpochFlow, ...]
    prices: tuple[PricePoint, ...]
    differences: int


class _Earned(Struct):
    role: str
    wallet: bytes
    traffic_noz: int = 0
    mining_wei: int = 0
    traffic_wei: int = 0


def read_rewards(genesis: Genesis, network: Validators, api: ChainApi) -> tuple[ChainLedger, RewardTable]:
    """The chain's history and the table of one moment: read again when a report came in between."""
    for _ in range(SNAPSHOTS):
        chain = ChainLedger(genesis, network, api)
        table = reward_table(genesis, chain, api)
        if int(api.get("/stratos/pot/v1/last_epoch")["epoch"]) == max(chain.reports, default=0):
            break
    return chain, table


def reward_table(genesis: Genesis, chain: ChainLedger, api: ChainApi) -> RewardTable:
    """Read and add up; raises what reading raises."""
    epochs = {
        epoch: chain.settled(
            epoch,
            rows=tuple(ReportedRow(row.node, row.wallet, int(row.volume_noz), ()) for row in report.message.rows),
            leaves=len(report.message.rows),
        )
        for epoch, report in chain.reports.items()
    }
    oracle = Oracle(genesis, name=chain.name)
    differences = sum(1 for _ in oracle.walk(chain.history(epochs)))
    nodes, flows = _earned(oracle, chain)
    volume = sum(payout.volume_noz for payout in oracle.payouts)
    listed = [
        _node_reward(chain.name(address), earned, api, volume) for address, earned in nodes.items()
    ] + _validators(genesis, chain, api, flows)
    listed.sort(key=lambda reward: (ROLES.index(reward.role), reward.node))
    layers = {
        role: LayerReward(
            sum(reward.mining_wei for reward in listed if reward.role == role),
            sum(reward.traffic_wei for reward in listed if reward.role == role),
        )
        for role in ROLES
    }
    layers["validator"] = LayerReward(
        sum(payout.chain_mining_wei for payout in oracle.payouts),
        sum(payout.chain_traffic_wei for payout in oracle.payouts),
    )
    prices = tuple(PricePoint(point.height, decimal18(point.price)) for point in oracle.prices)
    return RewardTable(len(oracle.payouts), chain.height, tuple(listed), layers, flows, prices, differences)


def _earned(oracle: Oracle, chain: ChainLedger) -> tuple[dict[bytes, _Earned], tuple[EpochFlow, ...]]:
    nodes = {address: _Earned(entry.role, entry.wallet) for address, entry in chain.book.nodes.items()}
    flows = []
    for payout in oracle.payouts:
        split = {"resource": 0, "meta": 0}
        for share in payout.shares:
            earned = nodes.setdefault(share.node, _Earned(share.role, share.wallet))
            earned.traffic_noz += share.volume_noz
            earned.mining_wei += share.mining_wei
            earned.traffic_wei += share.traffic_wei
            split[share.role] += share.mining_wei + share.traffic_wei
        flows.append(
            EpochFlow(
                epoch=payout.epoch,
                height=chain.reports[payout.epoch].height,
                volume_noz=payout.volume_noz,
                resource_wei=split["resource"],
                meta_wei=split["meta"],
                chain_wei=payout.chain_mining_wei + payout.chain_traffic_wei,
                chain_mining_wei=payout.chain_mining_wei,
                tax_wei=payout.tax_wei,
                mining_wei=payout.mined_wei,
                traffic_wei=payout.paid_from_pool_wei,
            )
        )
    return nodes, tuple(flows)


def _node_reward(name: str, earned: _Earned, api: ChainApi, volume: int) -> NodeReward:
    wallet = bech32.encode(bech32.WALLET, earned.wallet)
    told = api.get(f"/stratos/pot/v1/rewards/wallet/{wallet}")
    return NodeReward(
        node=name,
        role=earned.role,
        wallet=wallet,
        traffic_noz=earned.traffic_noz,
        share=percent(Fraction(earned.traffic_noz, volume)) if volume and earned.traffic_noz else "-",
        mining_wei=earned.mining_wei,
        traffic_wei=earned.traffic_wei,
        immature_wei=int(told["immature"]),
        mature_wei=int(told["mature"]),
    )


def _validators(genesis: Genesis, chain: ChainLedger, api: ChainApi, flows: tuple[EpochFlow, ...]) -> list[NodeReward]:
    records = api.get("/stratos/staking/v1/validators")["validators"]
    stake = sum(int(record["tokens_wei"]) for record in records)
    names = {node_address(one.node_public_key): one.name for one in genesis.validators}
    mining = sum(flow.chain_mining_wei for flow in flows)
    traffic = sum(flow.chain_wei - flow.chain_mining_wei for flow in flows)
    found = []
    for record in records:
        address = bech32.decode(bech32.NODE, record["address"])
        claimable = int(record["commission_wei"])
        for delegation in api.get(f"/stratos/staking/v1/delegations/{record['operator']}")["delegations"]:
            if delegation["validator"] == record["address"]:
                claimable += int(delegation["rewards_wei"])
        tokens = int(record["tokens_wei"])
        found.append(
            NodeReward(
                node=record["name"] or names.get(address) or chain.name(address),
                role="validator",
                wallet=record["operator"],
                traffic_noz=0,
                share="-",
                mining_wei=mining * tokens // stake,
                traffic_wei=traffic * tokens // stake,
                immature_wei=0,
                mature_wei=claimable,
            )
        )
    return found
