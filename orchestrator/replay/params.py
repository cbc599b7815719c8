"""Parameters of a script: the ledger's, by name, in parts or all in one place.

Names are those of the genesis file. A part may be left out, and a name is found wherever it is written, because a person
who tries `report_quorum` should not have to know which room it lives in; a name that two parts have
(`unbonding_days`) means the part it is written in. Numbers may be JSON numbers or strings; an unknown name is refused.
"""

from decimal import Decimal
from typing import Any

import msgspec

from orchestrator.replay.problems import at
from stratos.ledger.errors import LedgerError
from stratos.ledger.rules import Rules
from stratos.wire.genesis import LedgerParams, PotParams, RegisterParams, SdsParams, StakingParams

_PARTS: dict[str, type] = {"pot": PotParams, "register": RegisterParams, "sds": SdsParams, "staking": StakingParams}
_LOOSE = ("gas_price_wei", "day_seconds", "rules_version", "upgrade_notice_blocks")
_ALSO_CALLED = {"min_deposit": "min_deposit_wei", "gas_price": "gas_price_wei"}


def parse_params(given: dict[str, Any]) -> LedgerParams:
    """Ledger parameters of the script's `params`; ScriptProblem naming the parameter that is wrong."""
    found: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    loose: dict[str, Any] = {}
    for name, value in given.items():
        if name in _PARTS:
            if not isinstance(value, dict):
                raise at(f"params.{name}", "must be an object of parameters")
            for inner, setting in value.items():
                _place(found, loose, inner, setting, part=name, place=f"params.{name}.{inner}")
        else:
            _place(found, loose, name, value, part=None, place=f"params.{name}")
    try:
        params = msgspec.convert({**found, **loose}, LedgerParams)
        Rules.parse(params)
    except msgspec.ValidationError as error:
        raise at("params", f"{error}; see the parameters of the genesis file") from error
    except LedgerError as error:
        raise at("params", error.sentence) from error
    return params


def _place(
    found: dict[str, dict[str, Any]], loose: dict[str, Any], name: str, value: Any, *, part: str | None, place: str
) -> None:
    name = _ALSO_CALLED.get(name, name)
    if name in _LOOSE:
        loose[name] = _converted(LedgerParams, name, value, place)
        return
    owners = [owner for owner, kind in _PARTS.items() if name in kind.__struct_fields__]  # type: ignore[attr-defined]
    if not owners:
        raise at(place, "is not a parameter of the ledger; check its spelling")
    owner = part if part in owners else owners[0]
    found[owner][name] = _converted(_PARTS[owner], name, value, place)


def _converted(kind: type, name: str, value: Any, place: str) -> Any:
    """`value` in the JSON type of the field: text for amounts and decimals, a number for counts."""
    wanted = next(field.type for field in msgspec.structs.fields(kind) if field.name == name)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = format(value, "f") if isinstance(value, Decimal) else value
    for candidate in (value, _as_text(value), _as_number(value)):
        try:
            return msgspec.convert(candidate, wanted)
        except msgspec.ValidationError as error:
            problem = str(error)
    raise at(place, f"{value!r} is not possible here: {problem}")


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20 else value
