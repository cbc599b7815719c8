"""The ozone market: price, prepay, and what moves the limit (protocol 4).

S is the sum of effective deposits, P the balance of the unissued-prepay pool, L the remaining limit in noz. Three more
numbers keep L >= 0 when deposits leave after their ozone was sold: `deficit` is the part of a decrease that L could
not bear and that later increases (deposits and reports alike) repay first; `outstanding` is noz sold and not yet
reported, which gives L back its meaning when S returns from 0. A report is refused when Y + L + deficit > trunc(S / r),
as rule 4.6 writes it: while more is owed than the deposits left can back, reports wait. When S returns from 0 the deficit starts anew as what
the new limit cannot cover, because L itself was computed from `outstanding` then.
"""

from msgspec import Struct

from stratos.ledger import bank, rulebook
from stratos.ledger.errors import DUPLICATE, INVALID, OZONE_LIMIT, LedgerError
from stratos.ledger.events import OZONE_BOUGHT, event
from stratos.ledger.fixed import Fixed
from stratos.ledger.rulebook import EMPTY_PREPAY_REFUSED
from stratos.ledger.rules import Rules
from stratos.state import AmountTable, Branch, Reader, Table
from stratos.wire.block import Event
from stratos.wire.scalars import Address, Height
from stratos.wire.txs import FileUpload, Prepay

EFFECTIVE_DEPOSITS = AmountTable(b"sds/effective_deposits")
REMAINING_LIMIT = AmountTable(b"sds/remaining_limit")
OZONE_DEFICIT = AmountTable(b"sds/ozone_deficit")
OUTSTANDING = AmountTable(b"sds/noz_outstanding")


class UploadedFile(Struct, frozen=True, array_like=True):
    """A file recorded on the chain: who, and in which block."""

    uploader: Address
    height: Height


FILES = Table(b"sds/file/", UploadedFile)


class Market(Struct, frozen=True, kw_only=True):
    """S, P (wei) and L, deficit, outstanding (noz) at one moment."""

    deposits_wei: int
    prepay_wei: int
    limit_noz: int
    deficit_noz: int
    outstanding_noz: int

    @property
    def backing_wei(self) -> int:
        """S + P."""
        return self.deposits_wei + self.prepay_wei


def market(reader: Reader) -> Market:
    """The market as it is."""
    return Market(
        deposits_wei=EFFECTIVE_DEPOSITS.get(reader),
        prepay_wei=bank.balance(reader, bank.UNISSUED_PREPAY),
        limit_noz=REMAINING_LIMIT.get(reader),
        deficit_noz=OZONE_DEFICIT.get(reader),
        outstanding_noz=OUTSTANDING.get(reader),
    )


def total_limit(rules: Rules, deposits_wei: int) -> int:
    """trunc(S / r): all noz that deposits back."""
    return deposits_wei // rules.deposit_noz_rate


def price(of: Market) -> Fixed:
    """Wei per noz (protocol 4.2); LedgerError(ozone_limit) when no ozone is left."""
    _require_ozone(of)
    return Fixed.of(of.backing_wei) / of.limit_noz


def buyable(of: Market, amount_wei: int) -> int:
    """Noz that a prepay of `amount_wei` buys (protocol 4.3); LedgerError(ozone_limit) when none is left."""
    _require_ozone(of)
    if amount_wei == 0:
        return 0
    bought = (Fixed.of(of.limit_noz) * amount_wei / (of.backing_wei + amount_wei)).trunc()
    if bought > of.limit_noz:
        raise LedgerError(OZONE_LIMIT, f"{amount_wei} wei would buy {bought} noz of {of.limit_noz}; prepay less")
    return bought


def traffic_reward(of: Market, volume_noz: int) -> Fixed:
    """R = (S + P) * Y / (L + Y) of protocol 4.4, in wei, not yet capped by P; 0 for no volume."""
    if volume_noz == 0:
        return Fixed(0)
    return Fixed.of(of.backing_wei) * volume_noz / (of.limit_noz + volume_noz)


def buy(state: Branch, payer: bytes, amount_wei: int) -> int:
    """Move `amount_wei` from the payer (wallet or pool) into P and return the noz it buys."""
    bought = buyable(market(state), amount_wei)
    bank.move(state, payer, bank.UNISSUED_PREPAY, amount_wei)
    REMAINING_LIMIT.add(state, b"", -bought)
    OUTSTANDING.add(state, b"", bought)
    return bought


def settle(state: Branch, volume_noz: int) -> None:
    """Give reported ozone back to the limit: L += Y, the deficit first (protocol 4.4, 4.6)."""
    _raise_limit(state, volume_noz)
    OUTSTANDING.set(state, b"", max(0, OUTSTANDING.get(state) - volume_noz))


def make_effective(state: Branch, rules: Rules, deposit_wei: int) -> None:
    """S += d and L += trunc(d / r); L anew when S was 0 (protocol 4.6)."""
    before = EFFECTIVE_DEPOSITS.get(state)
    after = EFFECTIVE_DEPOSITS.add(state, b"", deposit_wei)
    if before > 0 or deposit_wei == 0:
        _raise_limit(state, deposit_wei // rules.deposit_noz_rate)
        return
    free = total_limit(rules, after) - OUTSTANDING.get(state)
    REMAINING_LIMIT.set(state, b"", max(0, free))
    OZONE_DEFICIT.set(state, b"", max(0, -free))


def make_ineffective(state: Branch, rules: Rules, deposit_wei: int) -> None:
    """S -= d and L -= min(trunc(d / r), L - 1); what L cannot bear becomes deficit (protocol 4.6)."""
    EFFECTIVE_DEPOSITS.add(state, b"", -deposit_wei)
    wanted = deposit_wei // rules.deposit_noz_rate
    limit = REMAINING_LIMIT.get(state)
    removed = min(wanted, max(0, limit - 1))
    REMAINING_LIMIT.set(state, b"", limit - removed)
    OZONE_DEFICIT.add(state, b"", wanted - removed)


def handle_prepay(state: Branch, sender: bytes, message: Prepay) -> list[Event]:
    """Buy ozone for a beneficiary (protocol 4.3)."""
    amount = bank.positive(message.amount_wei, "the prepaid amount")
    beneficiary = bank.recipient_wallet(message.beneficiary)
    bought = buy(state, sender, amount)
    if bought == 0 and rulebook.rules(state).has(EMPTY_PREPAY_REFUSED):
        one = price(market(state)).trunc()
        raise LedgerError(INVALID, f"{amount} wei would buy 0 noz, one costs about {one} wei; prepay more")
    return [event(OZONE_BOUGHT, beneficiary=beneficiary, noz=bought, sender=sender, amount=amount)]


def handle_file_upload(state: Branch, sender: bytes, message: FileUpload, height: int) -> list[Event]:
    """Record a file CID; the first record stays."""
    if FILES.get(state, message.file_cid) is not None:
        raise LedgerError(DUPLICATE, f"file {message.file_cid.hex()} is already recorded; nothing to do")
    FILES.set(state, message.file_cid, UploadedFile(sender, height))
    return [event("file_uploaded", file=message.file_cid, uploader=sender)]


def _raise_limit(state: Branch, noz: int) -> None:
    deficit = OZONE_DEFICIT.get(state)
    repaid = min(deficit, noz)
    OZONE_DEFICIT.set(state, b"", deficit - repaid)
    REMAINING_LIMIT.add(state, b"", noz - repaid)


def _require_ozone(of: Market) -> None:
    if of.limit_noz <= 0:
        raise LedgerError(
            OZONE_LIMIT,
            f"the remaining ozone limit is {of.limit_noz} noz; wait for a report or a new effective deposit",
        )
