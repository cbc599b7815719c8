"""Ozone: where every noz is, and the proof that none appears or vanishes (protocol 4.7).

sold = balances + reserved + repair reserve + unsettled + reported

Each move is one function here that takes from one place and puts into another; nothing else in the room touches these
totals. The totals are kept running and compared at the end of every block; the tests add the parts up again from the
records themselves. Balances are per wallet, unsettled noz per resource node.
"""

from collections.abc import Mapping

from stratos.meta.errors import InvariantBroken, MetaError
from stratos.meta.rooms import BALANCE, EARNER, RESERVED, TOTALS, Earner
from stratos.state import Branch, Reader

SOLD = b"sold"
BALANCES = b"balances"
RESERVES = b"reserved"
REPAIR_RESERVE = b"repair"
UNSETTLED = b"unsettled"
REPORTED = b"reported"
PLACES = (BALANCES, RESERVES, REPAIR_RESERVE, UNSETTLED, REPORTED)

NEW_EARNER = Earner(0, 0, 0)


def credit(branch: Branch, wallet: bytes, noz: int) -> None:
    """Ozone bought on the chain arrives (protocol 4.3)."""
    BALANCE.add(branch, wallet, noz)
    TOTALS.add(branch, BALANCES, noz)
    TOTALS.add(branch, SOLD, noz)


def credit_repair(branch: Branch, noz: int) -> None:
    """A leaving node's fee bought ozone for the repair account (protocol 6)."""
    TOTALS.add(branch, REPAIR_RESERVE, noz)
    TOTALS.add(branch, SOLD, noz)


def reserve(branch: Branch, wallet: bytes, noz: int) -> None:
    """Set aside for a session; raises MetaError `funds`."""
    balance = BALANCE.get(branch, wallet)
    if noz > balance:
        raise MetaError(
            "funds", f"wallet has {balance} noz, {noz} were to be reserved; prepay more STOS or ask for less"
        )
    BALANCE.set(branch, wallet, balance - noz)
    RESERVED.add(branch, wallet, noz)
    _move(branch, BALANCES, RESERVES, noz)


def release(branch: Branch, wallet: bytes, noz: int) -> None:
    """What a session did not spend returns."""
    if noz:
        RESERVED.add(branch, wallet, -noz)
        BALANCE.add(branch, wallet, noz)
        _move(branch, RESERVES, BALANCES, noz)


def charge(branch: Branch, wallet: bytes, node: bytes, noz: int) -> None:
    """Reserved noz becomes a node's unsettled traffic."""
    RESERVED.add(branch, wallet, -noz)
    _earn(branch, node, noz)
    _move(branch, RESERVES, UNSETTLED, noz)


def charge_reserve(branch: Branch, wallet: bytes, noz: int) -> None:
    """Reserved noz goes to the repair reserve (the upload's share for later repairs, a skipped holder's first piece)."""
    if noz:
        RESERVED.add(branch, wallet, -noz)
        _move(branch, RESERVES, REPAIR_RESERVE, noz)


def charge_balance(branch: Branch, wallet: bytes, noz: int) -> int:
    """At most `noz` of a wallet's free balance goes to the repair reserve; returns how much it was."""
    taken = min(noz, BALANCE.get(branch, wallet))
    if taken:
        BALANCE.add(branch, wallet, -taken)
        _move(branch, BALANCES, REPAIR_RESERVE, taken)
    return taken


def pay_repair(branch: Branch, node: bytes, noz: int) -> int:
    """At most `noz` of the repair reserve becomes the node's unsettled traffic; returns how much it was."""
    paid = min(noz, TOTALS.get(branch, REPAIR_RESERVE))
    if paid:
        _earn(branch, node, paid)
        _move(branch, REPAIR_RESERVE, UNSETTLED, paid)
    return paid


def report(branch: Branch, noz: int) -> None:
    """The chain has included a report of this volume."""
    _move(branch, UNSETTLED, REPORTED, noz)


def sheet(reader: Reader) -> Mapping[bytes, int]:
    """All totals by name."""
    return {name: TOTALS.get(reader, name) for name in (SOLD, *PLACES)}


def check_conserved(reader: Reader) -> None:
    """Raise InvariantBroken unless sold is the sum of all places (every block ends with this)."""
    totals = sheet(reader)
    placed = sum(totals[name] for name in PLACES)
    if placed != totals[SOLD]:
        parts = ", ".join(f"{name.decode()} {totals[name]}" for name in PLACES)
        raise InvariantBroken(f"{totals[SOLD]} noz were sold but {placed} are accounted for ({parts})")


def _earn(branch: Branch, node: bytes, noz: int) -> None:
    earner = EARNER.get(branch, node) or NEW_EARNER
    EARNER.set(branch, node, Earner(earner.unsettled_noz + noz, earner.first_seq, earner.next_seq))


def _move(branch: Branch, source: bytes, target: bytes, noz: int) -> None:
    TOTALS.add(branch, source, -noz)
    TOTALS.add(branch, target, noz)
