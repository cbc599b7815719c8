"""Reads a replay script and checks all of it before anything runs.

The result is typed: a genesis and steps whose fields have been checked for presence, type and range, so the runner can
only meet refusals of the ledger itself. Every problem names the step and the field. JSON objects with a key twice,
fractions where money is meant, days that go backwards and unknown fields are problems too: a calculator that guesses
is worse than none. `note` may stand in any step and is ignored.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

from msgspec import Struct

from orchestrator.replay.params import parse_params
from orchestrator.replay.problems import ScriptProblem, at, at_step
from orchestrator.replay.queries import Query, parse_query
from stratos.ledger.bank import PUBLIC_POOLS
from stratos.wire.genesis import LedgerParams
from stratos.wire.limits import MAX_REPORT_ROWS, MAX_VALIDATORS

MAX_SCRIPT_BYTES = 256 * 1024 * 1024
_MAX_NAME = 128
_MAX_HEIGHT = 2**53
_MAX_MS = 2**52
_AMOUNT_DIGITS = 31


class NodeEntry(Struct, frozen=True, kw_only=True):
    """A node listed in genesis; `stake` nodes are validators."""

    name: str
    owner: str
    beneficiary: str
    deposit: int
    effective: int = 0
    commission_bp: int = 0


class ScriptGenesis(Struct, frozen=True, kw_only=True):
    """The script's genesis."""

    accounts: dict[str, int]
    foundation: int
    total_mined: int
    meta_nodes: tuple[NodeEntry, ...]
    resource_nodes: tuple[NodeEntry, ...]
    validators: tuple[NodeEntry, ...]


class Step(Struct, frozen=True, kw_only=True):
    """One step: what to do, in which block, with checked fields."""

    index: int
    action: str
    time_ms: int
    height: int
    fields: dict[str, Any]


class Script(Struct, frozen=True, kw_only=True):
    """A checked script."""

    params: LedgerParams
    genesis: ScriptGenesis
    steps: tuple[Step, ...]


class Field(Struct, frozen=True):
    """A field of a step: how it is read, other names for it, and its default when it may be left out."""

    read: Callable[[Any], Any]
    also: tuple[str, ...] = ()
    required: bool = True
    default: Any = None


def parse_script(text: str | bytes) -> Script:
    """The checked script in `text`; ScriptProblem naming step and field when it is malformed."""
    if len(text) > MAX_SCRIPT_BYTES:
        raise at("script", f"{len(text)} bytes are over the limit of {MAX_SCRIPT_BYTES}; split it")
    document = _json(text)
    if not isinstance(document, dict):
        raise at("script", "must be a JSON object with params, genesis and steps")
    for name in document:
        if name not in ("params", "genesis", "steps", "note", "initial_total_supply"):
            raise at(name[:_MAX_NAME], "is not a part of a script; the parts are params, genesis and steps")
    genesis = _object(document.get("genesis", {}), "genesis")
    given = dict(_object(document.get("params", {}), "params"))
    for holder in (document, genesis):
        if "initial_total_supply" in holder:
            given["initial_total_supply"] = holder["initial_total_supply"]
    params = parse_params(given)
    steps = document.get("steps")
    if not isinstance(steps, list):
        raise at("steps", "must be a list of steps")
    return Script(params=params, genesis=_genesis(genesis), steps=_steps(steps, params.day_seconds * 1000))


def _steps(given: list[Any], day_ms: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    time_ms = height = 0
    for index, raw in enumerate(given):
        if not isinstance(raw, dict):
            raise at_step(index, "", "do", "a step must be an object with a do field")
        action = raw.get("do")
        if not isinstance(action, str) or action not in ACTIONS:
            raise at_step(index, "", "do", f"{_shown(action)} is not a step; the steps are {', '.join(ACTIONS)}")
        time_ms = _time(raw, index, action, time_ms=time_ms, day_ms=day_ms)
        height = _height(raw, index, action, last=height)
        steps.append(
            Step(index=index, action=action, time_ms=time_ms, height=height, fields=_fields(raw, index, action))
        )
    return tuple(steps)


def _fields(raw: dict[str, Any], index: int, action: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    known = {"do", "day", "height", "note"}
    for name, field in ACTIONS[action].items():
        spelled = [spelling for spelling in (name, *field.also) if spelling in raw]
        known.update((name, *field.also))
        if len(spelled) > 1:
            raise at_step(index, action, spelled[1], f"says the same as {spelled[0]}; keep one of them")
        if not spelled:
            if field.required:
                raise at_step(index, action, name, "is missing")
            values[name] = field.default
            continue
        try:
            values[name] = field.read(raw[spelled[0]])
        except ValueError as error:
            raise at_step(index, action, spelled[0], str(error)) from error
    for name in raw:
        if name not in known:
            raise at_step(index, action, name[:_MAX_NAME], f"is not a field of {action}; check its spelling")
    return values


def _time(raw: dict[str, Any], index: int, action: str, *, time_ms: int, day_ms: int) -> int:
    if "day" not in raw:
        return time_ms
    given = raw["day"]
    day = _decimal(given) if isinstance(given, str) else given
    if isinstance(day, bool) or not isinstance(day, int | Decimal) or day < 0:
        raise at_step(index, action, "day", f"{_shown(given)} is not a day; write a number, 0 or more")
    last_day = _MAX_MS // day_ms
    if day > last_day:
        raise at_step(index, action, "day", f"{_shown(given)} is too far away; the last day is {last_day}")
    at_ms = int(day * day_ms)
    if at_ms < time_ms:
        raise at_step(
            index, action, "day", f"{_shown(given)} is before the day of the step before it; time never goes backwards"
        )
    return at_ms


def _height(raw: dict[str, Any], index: int, action: str, *, last: int) -> int:
    if "height" not in raw:
        return last + 1
    try:
        height = _whole(raw["height"], 1, _MAX_HEIGHT)
    except ValueError as error:
        raise at_step(index, action, "height", str(error)) from error
    if height < last:
        raise at_step(
            index, action, "height", f"{height} is below height {last} of the step before it; heights only grow"
        )
    return height


def _genesis(given: dict[str, Any]) -> ScriptGenesis:
    allowed = (
        "accounts",
        "foundation",
        "total_mined",
        "meta_nodes",
        "resource_nodes",
        "validators",
        "initial_total_supply",
        "note",
    )
    for name in given:
        if name not in allowed:
            raise at(f"genesis.{name[:_MAX_NAME]}", "is not a part of genesis; check its spelling")
    accounts = _object(given.get("accounts", {}), "genesis.accounts")
    return ScriptGenesis(
        accounts={
            _checked(name, f"genesis.accounts.{name}", _name): _checked(amount, f"genesis.accounts.{name}", _amount)
            for name, amount in accounts.items()
        },
        foundation=_checked(given.get("foundation", "0"), "genesis.foundation", _amount),
        total_mined=_checked(given.get("total_mined", "0"), "genesis.total_mined", _amount),
        meta_nodes=_nodes(given, "meta_nodes", "deposit"),
        resource_nodes=_nodes(given, "resource_nodes", "deposit"),
        validators=_nodes(given, "validators", "stake"),
    )


def _nodes(given: dict[str, Any], part: str, locked: str) -> tuple[NodeEntry, ...]:
    listed = given.get(part, [])
    if not isinstance(listed, list):
        raise at(f"genesis.{part}", "must be a list of nodes")
    entries: list[NodeEntry] = []
    for index, raw in enumerate(listed):
        place = f"genesis.{part}[{index}]"
        node = _object(raw, place)
        extra = {"resource_nodes": ("effective",), "validators": ("commission_bp",)}.get(part, ())
        for name in node:
            if name not in ("name", "owner", "beneficiary", "note", locked, *extra):
                raise at(f"{place}.{name[:_MAX_NAME]}", "is not a field of a node here; check its spelling")
        for name in ("name", locked):
            if name not in node:
                raise at(f"{place}.{name}", "is missing")
        name = _checked(node["name"], f"{place}.name", _name)
        owner = _checked(node.get("owner", name), f"{place}.owner", _name)
        entry = NodeEntry(
            name=name,
            owner=owner,
            beneficiary=_checked(node.get("beneficiary", owner), f"{place}.beneficiary", _name),
            deposit=_checked(node[locked], f"{place}.{locked}", _amount),
            effective=_checked(node.get("effective", "0"), f"{place}.effective", _amount),
            commission_bp=_checked(node.get("commission_bp", 0), f"{place}.commission_bp", _basis_points),
        )
        if entry.effective > entry.deposit:
            raise at(f"{place}.effective", f"{entry.effective} is over the deposit of {entry.deposit}")
        entries.append(entry)
    return tuple(entries)


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise at("script", f"not JSON: {error}") from error
    except ValueError as error:
        raise at("script", str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{_shown(name)} stands twice in one object; use a list of pairs to name a wallet twice")
        found[name] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number the ledger knows")


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise at(place, f"{_shown(value)} must be an object")
    return value


def _checked(value: Any, place: str, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise at(place[:200], str(error)) from error


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > _MAX_NAME or not value.isprintable() or "/" in value:
        raise ValueError(f"{_shown(value)} is not a name; write 1 to {_MAX_NAME} characters without a slash")
    if value in PUBLIC_POOLS:
        raise ValueError(f"{value!r} is a pool of the ledger, not a wallet; choose another name")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_VALIDATORS:
        raise ValueError(f"{_shown(value)} must be a list of at most {MAX_VALIDATORS} names")
    return tuple(_name(name) for name in value)


def _amount(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    plain = isinstance(value, str) and value.isascii() and value.isdecimal()
    if not plain or len(value) > _AMOUNT_DIGITS or str(int(value)) != value:
        raise ValueError(f"{_shown(value)} is not an amount; write a whole number, 0 or more, as a string")
    return int(value)


def _whole(value: Any, lowest: int, highest: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{_shown(value)} is not a whole number from {lowest} to {highest}")
    return value


def _epoch(value: Any) -> int:
    return _whole(value, 0, 2**63 - 1)


def _basis_points(value: Any) -> int:
    return _whole(value, 0, 10_000)


def _version(value: Any) -> int:
    return _whole(value, 1, 2**31 - 1)


def _plan_height(value: Any) -> int:
    return _whole(value, 0, _MAX_HEIGHT)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} must be true or false")
    return value


def _volumes(value: Any) -> tuple[tuple[str, int], ...]:
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or len(pairs) > MAX_REPORT_ROWS:
        raise ValueError(f"must be an object or a list of at most {MAX_REPORT_ROWS} [name, noz] pairs")
    rows = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{_shown(pair)} is not a [name, noz] pair")
        rows.append((_name(pair[0]), _amount(pair[1])))
    return tuple(rows)


def _query(value: Any) -> Query:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} must be the path of a query")
    return parse_query(value)


def _decimal(text: str) -> Decimal | None:
    whole, _, fraction = text.partition(".")
    plain = text.isascii() and whole.isdecimal() and (fraction or "0").isdecimal() and len(text) < 40
    return Decimal(text) if plain else None


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= 60 else text[:57] + "..."


_SIGNERS = Field(_names, required=False)
_AMOUNT = Field(_amount)
_NODE = Field(_name, also=("name",))
_APPROVE = Field(_flag, required=False, default=True)

ACTIONS: dict[str, dict[str, Field]] = {
    "prepay": {"from": Field(_name, also=("wallet",)), "beneficiary": Field(_name, required=False), "amount": _AMOUNT},
    "volume_report": {
        "epoch": Field(_epoch),
        "volumes": Field(_volumes),
        "signers": _SIGNERS,
        "withheld": Field(_names, required=False, default=()),
    },
    "send": {"from": Field(_name), "to": Field(_name, also=("recipient",)), "amount": _AMOUNT},
    "withdraw": {
        "wallet": Field(_name, also=("from",)),
        "amount": _AMOUNT,
        "to": Field(_name, also=("recipient",), required=False),
    },
    "create_resource_node": {
        "name": Field(_name, also=("node",)),
        "deposit": Field(_amount, also=("amount",)),
        "owner": Field(_name, also=("from",), required=False),
        "beneficiary": Field(_name, required=False),
    },
    "create_meta_node": {
        "name": Field(_name, also=("node",)),
        "deposit": Field(_amount, also=("amount",)),
        "owner": Field(_name, also=("from",), required=False),
        "beneficiary": Field(_name, required=False),
    },
    "add_deposit": {
        "node": _NODE,
        "amount": Field(_amount, also=("deposit",)),
        "from": Field(_name, also=("owner",), required=False),
    },
    "set_effective_deposit": {"node": _NODE, "amount": Field(_amount, also=("effective",)), "signers": _SIGNERS},
    "suspend": {"node": _NODE, "signers": _SIGNERS},
    "unsuspend": {"node": _NODE, "signers": _SIGNERS},
    "unbond": {"node": _NODE, "from": Field(_name, also=("owner",), required=False)},
    "slash": {
        "node": _NODE,
        "noz": Field(_amount),
        "suspend": Field(_flag, required=False, default=False),
        "signers": _SIGNERS,
    },
    "leave": {
        "node": _NODE,
        "migrated_noz": Field(_amount),
        "completed": Field(_flag, required=False, default=False),
        "signers": _SIGNERS,
    },
    "vote": {"voter": Field(_name, also=("from",)), "candidate": Field(_name, also=("node",)), "approve": _APPROVE},
    "kick": {"from": Field(_name, also=("proposer",)), "node": Field(_name, also=("candidate", "target"))},
    "kick_vote": {
        "voter": Field(_name, also=("from",)),
        "candidate": Field(_name, also=("node", "target")),
        "approve": _APPROVE,
    },
    "delegate": {
        "from": Field(_name, also=("delegator", "wallet")),
        "validator": Field(_name, also=("to",)),
        "amount": _AMOUNT,
    },
    "undelegate": {
        "from": Field(_name, also=("delegator", "wallet", "to")),
        "validator": Field(_name),
        "amount": _AMOUNT,
    },
    "propose_upgrade": {
        "validator": Field(_name, also=("from",)),
        "rules_version": Field(_version),
        "at_height": Field(_plan_height, required=False, default=0),
    },
    "vote_upgrade": {
        "validator": Field(_name, also=("from", "voter")),
        "rules_version": Field(_version),
        "at_height": Field(_plan_height, required=False, default=0),
        "approve": _APPROVE,
    },
    "end_block": {},
    "query": {"what": Field(_query)},
}
"""Every step and its fields."""

__all__ = ["ACTIONS", "NodeEntry", "Script", "ScriptGenesis", "ScriptProblem", "Step", "parse_script"]
