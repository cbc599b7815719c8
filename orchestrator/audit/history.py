"""The chain's history as far as it bears on payouts, and the oracle that walks it.

The history is what users and authorities asked for and the chain accepted: prepays, deposits made effective or not,
meta nodes admitted or removed, reports. The oracle starts from the genesis file, applies protocol 4 and 5 to each
step and compares what the chain says came of it: noz bought, and per epoch what every wallet was paid, the
validators' part and the tax. It carries its own S, P, L and M forward, never the chain's, so an error in one epoch does
not hide in the next.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from msgspec import Struct

from orchestrator.audit.evidence import CHAIN, Finding, SettledEpoch
from orchestrator.audit.market import Market
from orchestrator.audit.payout import EpochPayout, Row, epoch_payout
from stratos.crypto.keys import node_address
from stratos.wire.genesis import FIRST_RULES_VERSION, Genesis


class Bought(Struct, frozen=True):
    """A prepay and the noz the chain gave for it (None where it does not say: prepays of the genesis file)."""

    height: int
    wallet: bytes
    amount_wei: int
    bought_noz: int | None


class StakeAdded(Struct, frozen=True):
    """A deposit (or more of it) was made effective."""

    height: int
    node: bytes
    amount_wei: int


class StakeRemoved(Struct, frozen=True):
    """An effective deposit was made ineffective: suspended, unbonding, removed."""

    height: int
    node: bytes
    amount_wei: int


class MetaJoined(Struct, frozen=True):
    """A meta node became active; `wallet` is where its share goes (beneficiary, else owner)."""

    height: int
    node: bytes
    wallet: bytes


class MetaLeft(Struct, frozen=True):
    """A meta node is no longer active."""

    height: int
    node: bytes


class PoolCredited(Struct, frozen=True):
    """wei that entered the prepay pool without buying ozone (forfeited traffic reward of a leaver)."""

    height: int
    amount_wei: int


class FoundationCredited(Struct, frozen=True):
    """wei that returned to the foundation (forfeited mining reward of a leaver); total mined stays."""

    height: int
    amount_wei: int


class Reported(Struct, frozen=True):
    """An accepted report. `withheld` meta nodes get no share. The found figures are the chain's own."""

    epoch: SettledEpoch
    withheld: frozenset[bytes]
    chain_mining_wei: int | None = None
    chain_traffic_wei: int | None = None
    tax_wei: int | None = None


class RulesChanged(Struct, frozen=True):
    """From this height on a newer version of the ledger's rules holds."""

    height: int
    version: int


Step = (
    Bought
    | StakeAdded
    | StakeRemoved
    | MetaJoined
    | MetaLeft
    | PoolCredited
    | FoundationCredited
    | Reported
    | RulesChanged
)

EMPTY_PREPAYS_END = 2
"""Rules version from which on a prepay that would buy 0 noz is refused, so that none is in the history."""
NEWEST_RULES = 2
"""Rules this oracle knows; it says so instead of judging by older ones."""


class PricePoint(Struct, frozen=True):
    """Price of ozone after a step, wei per noz."""

    height: int
    price: Fraction


class Oracle:
    """Walks a history from what the genesis file lists; collects payouts and findings. `name` turns addresses of
    nodes and wallets into names."""

    def __init__(self, genesis: Genesis, *, name: Callable[[bytes], str]) -> None:
        params = genesis.ledger
        meta_nodes = [(node_address(node.node_public_key), node) for node in genesis.meta_nodes]
        effective = [*(int(node.deposit_wei) for _, node in meta_nodes)]
        effective += [int(node.effective_wei) for node in genesis.resource_nodes]
        self.market = Market.at_genesis(stake_wei=sum(effective), rate_wei=int(params.register.deposit_noz_rate))
        self.mined_wei = int(genesis.total_mined_wei)
        self.foundation_wei = int(genesis.foundation_wei)
        self.rules_version = params.rules_version or FIRST_RULES_VERSION
        self.payouts: list[EpochPayout] = []
        self.prices: list[PricePoint] = []
        self._schedule = params.pot.split_schedule
        self._tax = Fraction(params.pot.community_tax)
        self._meta = {address: node.beneficiary for address, node in meta_nodes}
        self._name = name

    def walk(self, history: Iterable[Step]) -> Iterator[Finding]:
        """Apply every step in order, yielding what does not agree."""
        for step in history:
            yield from self._apply(step)
            price = self.market.price()
            if price is not None:
                height = step.epoch.height if isinstance(step, Reported) else step.height
                self.prices.append(PricePoint(height, price))

    def _apply(self, step: Step) -> Iterator[Finding]:
        match step:
            case Bought():
                bought = self.market.buy(step.amount_wei)
                if bought == 0 and self.rules_version >= EMPTY_PREPAYS_END:
                    what = f"noz bought at height {step.height} under rules version {self.rules_version}"
                    yield Finding(
                        node=self._name(step.wallet), epoch=0, expected="refused", found="0", ledger=CHAIN, what=what
                    )
                if step.bought_noz is not None:
                    what = f"noz bought at height {step.height}"
                    yield from self._compare(step.wallet, 0, bought, step.bought_noz, what)
            case StakeAdded():
                self.market.add_stake(step.amount_wei)
            case StakeRemoved():
                self.market.remove_stake(step.amount_wei)
            case MetaJoined():
                self._meta[step.node] = step.wallet
            case MetaLeft():
                self._meta.pop(step.node, None)
            case PoolCredited():
                self.market.pool_wei += step.amount_wei
            case FoundationCredited():
                self.foundation_wei += step.amount_wei
            case Reported():
                yield from self._settle(step)
            case RulesChanged():
                self.rules_version = step.version
                if step.version > NEWEST_RULES:
                    known = f"at most {NEWEST_RULES}"
                    what = f"rules version from height {step.height} on, which this audit does not know"
                    yield Finding(
                        node="chain", epoch=0, expected=known, found=str(step.version), ledger=CHAIN, what=what
                    )

    def _settle(self, step: Reported) -> Iterator[Finding]:
        report = step.epoch
        rows = [Row(row.node, row.wallet, row.volume_noz) for row in report.rows]
        if not any(row.volume_noz for row in rows):
            yield Finding(
                node="report", epoch=report.epoch, expected="more than 0", found="0", ledger=CHAIN, what="volume"
            )
            return
        payout = epoch_payout(
            self.market,
            epoch=report.epoch,
            rows=rows,
            meta_nodes=sorted(self._meta.items()),
            withheld=step.withheld,
            mined_wei=self.mined_wei,
            foundation_wei=self.foundation_wei,
            split_schedule=self._schedule,
            community_tax=self._tax,
        )
        self.payouts.append(payout)
        self.market.settle(volume_noz=payout.volume_noz, paid_wei=payout.paid_from_pool_wei)
        self.mined_wei += payout.mined_wei
        self.foundation_wei -= payout.mined_wei
        yield from self._compare_wallets(payout, report)
        for expected, found, what in (
            (payout.chain_mining_wei, step.chain_mining_wei, "mining wei of the validators' part"),
            (payout.chain_traffic_wei, step.chain_traffic_wei, "traffic wei of the validators' part"),
            (payout.tax_wei, step.tax_wei, "community tax wei"),
        ):
            if found is not None:
                yield from self._compare(None, report.epoch, expected, found, what)

    def _compare_wallets(self, payout: EpochPayout, report: SettledEpoch) -> Iterator[Finding]:
        expected: defaultdict[bytes, list[int]] = defaultdict(lambda: [0, 0])
        nodes: defaultdict[bytes, list[str]] = defaultdict(list)
        for share in payout.shares:
            expected[share.wallet][0] += share.mining_wei
            expected[share.wallet][1] += share.traffic_wei
            nodes[share.wallet].append(self._name(share.node))
        found = {paid.wallet: [paid.mining_wei, paid.traffic_wei] for paid in report.paid}
        for wallet in sorted(expected.keys() | found.keys()):
            wanted, had = expected.get(wallet, [0, 0]), found.get(wallet, [0, 0])
            who = ", ".join(dict.fromkeys(nodes[wallet])) or self._name(wallet)
            for index, what in enumerate(("mining wei", "traffic wei")):
                if wanted[index] != had[index]:
                    yield Finding(
                        node=who,
                        epoch=report.epoch,
                        expected=str(wanted[index]),
                        found=str(had[index]),
                        ledger=CHAIN,
                        what=what,
                    )

    def _compare(self, who: bytes | None, epoch: int, expected: int, found: int, what: str) -> Iterator[Finding]:
        if expected != found:
            node = "chain" if who is None else self._name(who)
            yield Finding(node=node, epoch=epoch, expected=str(expected), found=str(found), ledger=CHAIN, what=what)
