"""Events of the value layer: how they are made and which of them the meta layer lives on.

An event is a kind and ordered text attributes; addresses are hex, amounts decimal. The kinds in `BRIDGE_KINDS` enter
the meta log with their block (protocol 1); everything the meta layer needs is in the attributes, so it never reads
ledger state. Events of a refused transaction are dropped, except that the refusal of something an authority quorum
signed is itself an event.
"""

from stratos.wire.block import Event

OZONE_BOUGHT = "ozone_bought"
REPAIR_CREDITED = "repair_credited"
RESOURCE_CREATED = "resource_created"
META_CREATED = "meta_created"
DEPOSIT_ADDED = "deposit_added"
EFFECTIVE_DEPOSIT = "effective_deposit"
SUSPENDED = "suspended"
UNSUSPENDED = "unsuspended"
UNBONDING = "unbonding"
UNBONDED = "unbonded"
META_ADMITTED = "meta_admitted"
META_REMOVED = "meta_removed"
REPORT_INCLUDED = "report_included"
REPORT_REFUSED = "report_refused"
ACTION_INCLUDED = "action_included"
ACTION_REFUSED = "action_refused"

BRIDGE_KINDS = frozenset(
    {
        OZONE_BOUGHT,
        REPAIR_CREDITED,
        RESOURCE_CREATED,
        META_CREATED,
        DEPOSIT_ADDED,
        EFFECTIVE_DEPOSIT,
        SUSPENDED,
        UNSUSPENDED,
        UNBONDING,
        UNBONDED,
        META_ADMITTED,
        META_REMOVED,
        REPORT_INCLUDED,
        REPORT_REFUSED,
        ACTION_INCLUDED,
        ACTION_REFUSED,
    }
)


def event(kind: str, /, **attributes: str | int | bytes | bool) -> Event:
    """An event; bytes become hex, ints decimal, booleans true or false."""
    return Event(kind, tuple((name, _text(value)) for name, value in attributes.items()))


def attributes(of: Event) -> dict[str, str]:
    """The attributes of an event by name."""
    return dict(of.attributes)


def _text(value: str | int | bytes | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
