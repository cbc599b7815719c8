"""Queries of a script: their paths, and the answers from the ledger's own query functions."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from orchestrator.replay.names import Names
from stratos.ledger import bank, queries, register
from stratos.ledger.rules import Rules
from stratos.state import Reader


class Query(Struct, frozen=True):
    """A query: its kind (the path without its argument) and the argument, empty where there is none."""

    kind: str
    argument: str = ""


class Asked(Struct, frozen=True):
    """What an answer is made from."""

    state: Reader
    rules: Rules
    names: Names
    argument: str


Answer = Callable[[Asked], Any]


def parse_query(what: str) -> Query:
    """The query at a path; ValueError when there is none."""
    if what in PLAIN:
        return Query(what)
    kind, _, argument = what.rpartition("/")
    if kind not in WITH_ARGUMENT or not argument:
        known = [*PLAIN, *(f"{path}/<{shown}>" for path, (shown, _) in WITH_ARGUMENT.items())]
        raise ValueError(f"{what[:80]!r} is not a query; there are {', '.join(known)}")
    if WITH_ARGUMENT[kind][0] in ("wei", "n") and not (
        argument.isascii() and argument.isdecimal() and len(argument) <= 31
    ):
        raise ValueError(f"{argument[:40]!r} in {kind} is not a whole number")
    return Query(kind, argument)


def answer(query: Query, state: Reader, rules: Rules, names: Names) -> Any:
    """The result of a query; LedgerError where it has none."""
    asked = Asked(state, rules, names, query.argument)
    if query.kind in PLAIN:
        return PLAIN[query.kind](asked)
    return WITH_ARGUMENT[query.kind][1](asked)


def _epoch_rewards(asked: Asked) -> dict[str, dict[str, str]]:
    paid = queries.epoch_rewards(asked.state, int(asked.argument))
    return by_name(paid, asked.names)


def by_name(paid: dict[bytes, dict[str, str]], names: Names) -> dict[str, dict[str, str]]:
    """Amounts by wallet, under the wallets' names in their order."""
    return dict(sorted((names.name_of(wallet), amounts) for wallet, amounts in paid.items()))


def _debt_wallet(asked: Asked) -> bytes:
    """The wallet of a name; for a node with another owner, that owner, who carries the debt."""
    node = register.RESOURCE.get(asked.state, asked.names.node(asked.argument))
    return asked.names.wallet(asked.argument) if node is None else node.owner


def _address(asked: Asked) -> bytes:
    return bank.PUBLIC_POOLS.get(asked.argument) or asked.names.wallet(asked.argument)


PLAIN: dict[str, Answer] = {
    "sds/noz_price": lambda asked: queries.noz_price(asked.state),
    "sds/noz_supply": lambda asked: queries.noz_supply(asked.state, asked.rules),
    "pot/total_mined_token": lambda asked: queries.total_mined(asked.state),
    "pot/circulation_supply": lambda asked: queries.circulation_supply(asked.state),
    "register/remaining_ozone_limit": lambda asked: queries.remaining_limit(asked.state),
    "register/deposit_total": lambda asked: queries.deposit_total(asked.state),
    "bank/supply": lambda asked: queries.supply(asked.state),
    "upgrade/plan": lambda asked: queries.upgrade(asked.state, asked.rules, name=asked.names.name_of),
    "state": lambda asked: queries.overview(asked.state, asked.rules),
}
WITH_ARGUMENT: dict[str, tuple[str, Answer]] = {
    "sds/sim_prepay": ("wei", lambda asked: queries.sim_prepay(asked.state, int(asked.argument))),
    "pot/rewards/wallet": (
        "name",
        lambda asked: queries.wallet_rewards(asked.state, asked.names.wallet(asked.argument)),
    ),
    "pot/rewards/epoch": ("n", _epoch_rewards),
    "pot/slashing": ("name", lambda asked: queries.slashing(asked.state, _debt_wallet(asked))),
    "register/resource_node": (
        "name",
        lambda asked: queries.resource_node(asked.state, asked.rules, asked.names.node(asked.argument), genesis_ms=0),
    ),
    "register/meta_node": (
        "name",
        lambda asked: queries.meta_node(asked.state, asked.rules, asked.names.node(asked.argument), genesis_ms=0),
    ),
    "bank/balances": ("name or pool", lambda asked: queries.balance(asked.state, _address(asked))),
}
