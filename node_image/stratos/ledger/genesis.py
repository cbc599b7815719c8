"""The ledger's first state: everything a genesis file lists, in a fixed order.

Accounts, the foundation, validators, meta nodes, resource nodes, the ozone limit of what they back, and then the
prepays, as if each were a message. The supply is exactly what is listed; more than the cap is refused. The events are
those a running network would have produced, so that the meta layer starts from the same bridge as it goes on with.
"""

from stratos.ledger import bank, pot, register, rulebook, sds, staking
from stratos.ledger.errors import INVALID, LedgerError
from stratos.ledger.events import EFFECTIVE_DEPOSIT, META_ADMITTED, META_CREATED, RESOURCE_CREATED, UNSUSPENDED, event
from stratos.ledger.rules import Rules
from stratos.state import Branch
from stratos.wire.block import Event
from stratos.wire.genesis import Genesis
from stratos.wire.txs import Prepay


def init(state: Branch, rules: Rules, genesis: Genesis) -> list[Event]:
    """Write the first state into an empty branch; LedgerError(invalid) for a genesis that cannot be."""
    rulebook.begin_with(state, rules.rules_version)
    for account in genesis.accounts:
        bank.mint(state, bank.recipient_wallet(account.address), int(account.balance_wei))
    bank.mint(state, bank.FOUNDATION, int(genesis.foundation_wei))
    pot.MINED.set(state, b"", int(genesis.total_mined_wei))
    for validator in genesis.validators:
        staking.genesis_validator(state, rules, validator)
    events: list[Event] = []
    for listed in genesis.meta_nodes:
        node = register.genesis_node(state, register.META, listed, genesis.time_ms)
        sds.EFFECTIVE_DEPOSITS.add(state, b"", node.effective)
        events += [register.created_event(META_CREATED, node), event(META_ADMITTED, node=node.address)]
    for listed in genesis.resource_nodes:
        node = register.genesis_node(state, register.RESOURCE, listed, genesis.time_ms)
        sds.EFFECTIVE_DEPOSITS.add(state, b"", node.effective)
        events.append(register.created_event(RESOURCE_CREATED, node))
        if node.effective > 0:
            events.append(event(EFFECTIVE_DEPOSIT, node=node.address, amount=node.effective))
            events.append(event(UNSUSPENDED, node=node.address, amount=node.effective))
    sds.REMAINING_LIMIT.set(state, b"", sds.total_limit(rules, sds.EFFECTIVE_DEPOSITS.get(state)))
    supply = bank.supply(state)
    if supply > rules.initial_supply_wei:
        raise LedgerError(
            INVALID, f"genesis lists {supply} wei and the cap is {rules.initial_supply_wei}; list less or raise the cap"
        )
    for prepay in genesis.prepays:
        message = Prepay(prepay.beneficiary, prepay.amount_wei)
        events += sds.handle_prepay(state, prepay.sender, message)
    return events
