"""What the ledger answers when asked: the one place where state becomes JSON-ready values.

The chain's REST surface and `ledger replay` both answer from here, so they cannot differ. Integers are strings,
decimals strings with 18 places, addresses stay bytes in keys for the caller to name (bech32 or a script's names).
LedgerError is raised where a question has no answer (no ozone left, unknown node).
"""

from collections.abc import Callable
from typing import Any

from stratos.ledger import bank, membership, pot, register, rewards, rulebook, sds, upgrades
from stratos.ledger.errors import UNKNOWN, LedgerError
from stratos.ledger.fixed import Fixed
from stratos.ledger.register import META, RESOURCE, Node
from stratos.ledger.rules import TOTAL_MINING_WEI, Rules
from stratos.state import Reader


def noz_price(reader: Reader) -> str:
    """Wei per noz."""
    return str(sds.price(sds.market(reader)))


def noz_supply(reader: Reader, rules: Rules) -> dict[str, str]:
    """Remaining limit, and all noz that effective deposits back."""
    market = sds.market(reader)
    return {"remaining": str(market.limit_noz), "total": str(sds.total_limit(rules, market.deposits_wei))}


def sim_prepay(reader: Reader, amount_wei: int) -> str:
    """Noz that a prepay would buy now."""
    return str(sds.buyable(sds.market(reader), amount_wei))


def total_mined(reader: Reader) -> str:
    """Wei mined so far."""
    return str(pot.MINED.get(reader))


def circulation_supply(reader: Reader) -> str:
    """Supply less what is still to be mined of the 40,000,000 STOS, as the public network counts it; at least 0."""
    unmined = max(0, TOTAL_MINING_WEI - pot.MINED.get(reader))
    return str(max(0, bank.supply(reader) - unmined))


def wallet_rewards(reader: Reader, wallet: bytes) -> dict[str, str]:
    """Mature and immature wei of a wallet."""
    return {
        "mature": str(rewards.MATURE.get(reader, wallet)),
        "immature": str(rewards.IMMATURE_TOTAL.get(reader, wallet)),
    }


def epoch_rewards(reader: Reader, epoch: int) -> dict[bytes, dict[str, str]]:
    """What the report of an epoch paid, by wallet."""
    if not 0 <= epoch < 2**63:
        return {}
    return {
        wallet: {"mining": paid.mining_wei, "traffic": paid.traffic_wei}
        for wallet, paid in rewards.paid_in_epoch(reader, epoch)
    }


def slashing(reader: Reader, wallet: bytes) -> str:
    """Debt of a wallet."""
    return str(rewards.DEBT.get(reader, wallet))


def remaining_limit(reader: Reader) -> str:
    """L."""
    return str(sds.REMAINING_LIMIT.get(reader))


def deposit_total(reader: Reader) -> dict[str, str]:
    """Locked deposits of both roles (unbonding ones included), and the effective ones."""
    return {
        "resource": str(register.RESOURCE_DEPOSITS.get(reader)),
        "meta": str(register.META_DEPOSITS.get(reader)),
        "effective": str(sds.EFFECTIVE_DEPOSITS.get(reader)),
    }


def resource_node(reader: Reader, rules: Rules, address: bytes, *, genesis_ms: int) -> dict[str, Any]:
    """A resource node's record."""
    node = RESOURCE.get(reader, address)
    if node is None:
        raise LedgerError(UNKNOWN, f"{address.hex()} is not a resource node; create it first")
    return _node(node, rules, genesis_ms)


def meta_node(reader: Reader, rules: Rules, address: bytes, *, genesis_ms: int) -> dict[str, Any]:
    """A meta node's record, with the votes of the poll about it: its kick when one is open, else its admission."""
    node = META.get(reader, address)
    if node is None:
        raise LedgerError(UNKNOWN, f"{address.hex()} is not a meta node; create it first")
    kick = membership.KICKS.get(reader, address)
    admission = membership.ADMISSIONS.get(reader, address)
    poll = kick if kick is not None and (admission is None or kick.expires_ms > admission.expires_ms) else admission
    approvals, rejections = (0, 0) if poll is None else membership.tally(poll)
    expires = None if poll is None else day_text(poll.expires_ms - genesis_ms, rules.day_ms)
    return {
        **_node(node, rules, genesis_ms),
        "active": node.active,
        "votes_for": str(approvals),
        "votes_against": str(rejections),
        "poll_expires_day": expires,
    }


def node_count(reader: Reader, *, meta: bool) -> str:
    """Bonded nodes of a role."""
    table = META if meta else RESOURCE
    return str(sum(1 for _, node in table.items(reader) if node.status == register.BONDED))


def report(reader: Reader, epoch: int) -> pot.ReportRecord:
    """The accepted report of an epoch; LedgerError(unknown) when there is none."""
    record = pot.report_of(reader, epoch)
    if record is None:
        raise LedgerError(UNKNOWN, f"no report of epoch {epoch} was accepted; the last was {last_epoch(reader)}")
    return record


def last_epoch(reader: Reader) -> int:
    """The last reported epoch, 0 before the first."""
    return rewards.LAST_EPOCH.get(reader)


def balance(reader: Reader, address: bytes) -> str:
    """Wei of a wallet or pool."""
    return str(bank.balance(reader, address))


def supply(reader: Reader) -> str:
    """All wei."""
    return str(bank.supply(reader))


def overview(reader: Reader, rules: Rules) -> dict[str, Any]:
    """S, P, L, r and the pools."""
    market = sds.market(reader)
    return {
        "S": str(market.deposits_wei),
        "P": str(market.prepay_wei),
        "L": str(market.limit_noz),
        "r": str(rules.deposit_noz_rate),
        "pools": {name: balance(reader, address) for name, address in bank.PUBLIC_POOLS.items()},
    }


def planned_upgrade(reader: Reader) -> dict[str, str] | None:
    """The approved rules version that has not begun, None without one."""
    plan = rulebook.plan(reader)
    if plan is None:
        return None
    return {
        "rules_version": str(plan.version),
        "height": str(plan.height),
        "approved_height": str(plan.approved_height),
    }


def upgrade(reader: Reader, rules: Rules, *, name: Callable[[bytes], str]) -> dict[str, Any]:
    """Rules that hold, the plan, and every open poll with the power behind it; `name` turns node addresses into text."""
    holding = rulebook.rules(reader)
    polls = []
    for _, poll in upgrades.POLLS.items(reader):
        counted = upgrades.tally(reader, poll)
        polls.append(
            {
                "rules_version": str(poll.rules_version),
                "height": str(poll.height),
                "proposer": name(poll.proposer),
                "expires_ms": str(poll.expires_ms),
                "approvals": [name(address) for address in poll.approvals],
                "rejections": [name(address) for address in poll.rejections],
                "approving_power": str(counted.approving),
                "rejecting_power": str(counted.rejecting),
                "total_power": str(counted.total),
            }
        )
    return {
        "rules_version": str(holding.version),
        "since_height": str(holding.since_height),
        "notice_blocks": str(rules.upgrade_notice_blocks),
        "plan": planned_upgrade(reader),
        "polls": polls,
    }


def day_text(elapsed_ms: int, day_ms: int) -> str:
    """A number of days: an integer where it is one, else a decimal with 18 places."""
    if elapsed_ms % day_ms == 0:
        return str(elapsed_ms // day_ms)
    return str(Fixed.of(elapsed_ms) / day_ms)


def _node(node: Node, rules: Rules, genesis_ms: int) -> dict[str, Any]:
    return {
        "deposit": node.deposit_wei,
        "effective_deposit": node.effective_wei,
        "status": node.status,
        "suspended": node.suspended,
        "creation_day": day_text(node.created_ms - genesis_ms, rules.day_ms),
    }
