"""Versions of the ledger's rules: what each one changes, which one holds, and when the next one begins.

This is the one place that says what a version changes. A handler whose rule changed asks `rules(state).has(CHANGE)`; the answer
is committed state, so all nodes give it for the same block, and a proof against a state root shows it (`upgrade/in_force`,
`upgrade/plan`). Version 1 has nothing under these keys: its states and roots are those of programs older than this file.
`ledger.upgrades` has the vote that makes a plan; here is what a plan does: at the beginning of its height the version changes, so
the whole block runs under it. Before that height a program that knows the version and one that does not make the same blocks.

A program applies versions 1 to `NEWEST_RULES`. One that lacks the version of a height must not execute that block: it stops with
`UnknownRules`, and its store, which ends with the block before, is taken up by a newer program. The environment variable
`STRATOS_RULES_UP_TO=N` lowers what a node claims to know (never raises it), so that an upgrade can be rehearsed with one program:
run some nodes with `STRATOS_RULES_UP_TO=1`, cross the height, and restart them without it as if a new image had been installed.

A new version: raise `NEWEST_RULES`, add its `Change` here, ask for it where the rule is, and leave the older branch as it is.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from stratos.state import Branch, Reader, Table
from stratos.wire.genesis import FIRST_RULES_VERSION
from stratos.wire.scalars import Count, Height

NEWEST_RULES = 2
"""Newest version that this program applies (the label of an image, `stratosd --version`)."""
UP_TO_VARIABLE = "STRATOS_RULES_UP_TO"


class Change(Struct, frozen=True):
    """One rule that became another one: from which version on, and what it says since."""

    since: int
    says: str


EMPTY_PREPAY_REFUSED = Change(
    2, "a prepay that would buy 0 noz is refused with code invalid and takes no money; before, the money was taken"
)
CHANGES = (EMPTY_PREPAY_REFUSED,)
"""All changes, oldest first."""


class UnknownRules(Exception):
    """The next block, or the store, is under rules that this program does not know; the sentence says how to go on."""

    def __init__(self, version: int, since_height: int, newest: int) -> None:
        super().__init__(
            f"rules version {version} holds from height {since_height} on and this program knows versions up to {newest}; "
            f"install an image with rules version >= {version}, it goes on with the store as it is"
        )
        self.version = version
        self.since_height = since_height


class RulesSettingError(ValueError):
    """`STRATOS_RULES_UP_TO` is not a version."""


class InForce(Struct, frozen=True, array_like=True):
    """The version that holds, and the first height that ran under it (0: from genesis)."""

    version: Count
    since_height: Height

    def has(self, change: Change) -> bool:
        """Whether the changed rule is the one to apply."""
        return self.version >= change.since


class Plan(Struct, frozen=True, array_like=True):
    """The version that more than two thirds of the voting power approved, from which height on, and when they had."""

    version: Count
    height: Height
    approved_height: Height


IN_FORCE = Table(b"upgrade/in_force", InForce)
PLAN = Table(b"upgrade/plan", Plan)
_FROM_THE_START = InForce(FIRST_RULES_VERSION, 0)


def known_rules(environment: Mapping[str, str]) -> int:
    """Newest version that a program with this environment applies; raises RulesSettingError."""
    given = environment.get(UP_TO_VARIABLE, "")
    if not given:
        return NEWEST_RULES
    if not re.fullmatch(r"[1-9][0-9]{0,8}", given):
        raise RulesSettingError(
            f"{UP_TO_VARIABLE} is {given[:40]!r}; set it to a rules version from {FIRST_RULES_VERSION} to {NEWEST_RULES}, or unset it"
        )
    return min(int(given), NEWEST_RULES)


def rules(reader: Reader) -> InForce:
    """The version that holds."""
    return IN_FORCE.get(reader, b"") or _FROM_THE_START


def plan(reader: Reader) -> Plan | None:
    """What was voted and has not begun."""
    return PLAN.get(reader, b"")


def require_known(reader: Reader, height: int, newest: int) -> None:
    """Refuse (UnknownRules) to execute a block of `height` on this state, unless versions up to `newest` suffice."""
    planned = plan(reader)
    if planned is not None and planned.height <= height and planned.version > newest:
        raise UnknownRules(planned.version, planned.height, newest)
    holding = rules(reader)
    if holding.version > newest:
        raise UnknownRules(holding.version, holding.since_height, newest)


def begin_with(state: Branch, version: int) -> None:
    """A network whose genesis names a version begins with it; version 1 leaves no trace."""
    if version != FIRST_RULES_VERSION:
        IN_FORCE.set(state, b"", InForce(version, 0))


def activate_due(state: Branch, height: int) -> InForce | None:
    """The beginning of a block: the planned version if its height has come, which holds from here on."""
    planned = plan(state)
    if planned is None or planned.height > height:
        return None
    now = InForce(planned.version, height)
    IN_FORCE.set(state, b"", now)
    PLAN.delete(state, b"")
    return now
