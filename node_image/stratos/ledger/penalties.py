"""What a resource node loses: slashing by the authorities, and the price of leaving (protocol 6).

Both are measured by rule 4.4, what the traffic would have earned at the moment of the decision. A slash is a debt of the
owner's wallet, taken from maturing rewards and then from the returning deposit. A leaver pays at once for copying its
slices elsewhere: from immature rewards, oldest first, then from the deposit; the fee buys ozone for the repair account
like any prepay. Who leaves before the cooling-off ended loses what is still immature: mining back to the foundation
(M stays, those coins were mined), traffic back to the prepay pool.
"""

from msgspec import structs

from stratos.ledger import bank, register, rewards, sds
from stratos.ledger.errors import DUPLICATE, LedgerError
from stratos.ledger.events import EFFECTIVE_DEPOSIT, REPAIR_CREDITED, event
from stratos.ledger.register import RESOURCE, Node
from stratos.ledger.rules import Rules
from stratos.state import Branch
from stratos.wire.block import Event
from stratos.wire.txs import Leave, Slash


def handle_slash(state: Branch, rules: Rules, message: Slash) -> list[Event]:
    """Add trunc(rule 4.4 of the slashed noz) to the owner's debt, and suspend the node if asked."""
    node = register.resource(state, message.node)
    amount = sds.traffic_reward(sds.market(state), int(message.slashed_noz)).trunc()
    debt = rewards.DEBT.add(state, node.owner, amount)
    events = [event("slashed", node=node.address, wallet=node.owner, amount=amount, debt=debt)]
    if message.suspend and node.status == register.BONDED:
        events += register.suspend(state, rules, node)[1]
    return events


def handle_leave(state: Branch, rules: Rules, message: Leave) -> list[Event]:
    """Charge the migration fee and, unless the cooling-off was completed, forfeit what is immature."""
    node = register.resource(state, message.node)
    if node.left:
        raise LedgerError(DUPLICATE, f"node {node.address.hex()} has already been settled as left; nothing to do")
    fee = 0
    if rules.exit_migration_fee:
        fee = sds.traffic_reward(sds.market(state), int(message.migrated_noz)).trunc()
    from_immature = sum(rewards.take_immature(state, node.beneficiary, node.address, fee))
    from_deposit = min(fee - from_immature, node.deposit)
    effective_before = node.effective
    node = _without_deposit(state, rules, node, from_deposit)
    register.put(state, RESOURCE, structs.replace(node, left=True))
    credited = _buy_repair(state, from_immature=from_immature, from_deposit=from_deposit)
    mining = traffic = 0
    if rules.forfeit_on_early_exit and not message.completed:
        mining, traffic = rewards.take_immature(state, node.beneficiary, node.address, None)
        bank.move(state, bank.TOTAL_REWARD, bank.FOUNDATION, mining)
        bank.move(state, bank.TOTAL_REWARD, bank.UNISSUED_PREPAY, traffic)
    left = event(
        "left",
        node=node.address,
        fee=fee,
        paid=from_immature + from_deposit,
        from_deposit=from_deposit,
        forfeited_mining=mining,
        forfeited_traffic=traffic,
        completed=message.completed,
    )
    events = [left]
    if credited:
        events.append(event(REPAIR_CREDITED, noz=credited, node=node.address))
    if node.effective != effective_before:
        events.append(event(EFFECTIVE_DEPOSIT, node=node.address, amount=node.effective))
    return events


def _without_deposit(state: Branch, rules: Rules, node: Node, amount: int) -> Node:
    """The node after `amount` was taken from its deposit; what is effective never exceeds the deposit."""
    deposit = node.deposit - amount
    if node.effective > deposit:
        sds.make_ineffective(state, rules, node.effective - deposit)
    return structs.replace(node, deposit_wei=str(deposit), effective_wei=str(min(node.effective, deposit)))


def _buy_repair(state: Branch, *, from_immature: int, from_deposit: int) -> int:
    """Put the fee into P as one prepay of the repair account; noz bought, 0 while no ozone is left."""
    paid = from_immature + from_deposit
    market = sds.market(state)
    bank.move(state, bank.TOTAL_REWARD, bank.DEPOSITS, from_immature)
    if paid == 0 or market.limit_noz <= 0:
        bank.move(state, bank.DEPOSITS, bank.UNISSUED_PREPAY, paid)
        return 0
    return sds.buy(state, bank.DEPOSITS, paid)
