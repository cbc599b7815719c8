"""Ozone moves between places and never appears or vanishes."""

import pytest

from stratos.meta import ozone
from stratos.meta.errors import InvariantBroken, MetaError
from stratos.meta.rehearsal import Rehearsal
from stratos.meta.rooms import BALANCE, EARNER, RESERVED, TOTALS
from stratos.state import Branch, State

WALLET = b"w" * 20
NODE = b"n" * 20


def branch_with(noz: int) -> Branch:
    branch = State().fork()
    ozone.credit(branch, WALLET, noz)
    return branch


def test_every_move_keeps_the_sum() -> None:
    """Credit, reserve, charge, repair pay and report leave sold equal to the sum of all places."""
    branch = branch_with(1_000)
    ozone.reserve(branch, WALLET, 600)
    ozone.charge(branch, WALLET, NODE, 200)
    ozone.charge_reserve(branch, WALLET, 50)
    ozone.release(branch, WALLET, 100)
    assert ozone.pay_repair(branch, NODE, 80) == 50
    assert ozone.charge_balance(branch, WALLET, 10_000) == 500
    ozone.report(branch, 250)
    ozone.credit_repair(branch, 7)
    ozone.check_conserved(branch)
    assert ozone.sheet(branch) == {
        b"sold": 1_007, b"balances": 0, b"reserved": 250, b"repair": 507, b"unsettled": 0, b"reported": 250
    }  # fmt: skip
    earner = EARNER.get(branch, NODE)
    assert earner is not None and earner.unsettled_noz == 250
    assert (BALANCE.get(branch, WALLET), RESERVED.get(branch, WALLET)) == (0, 250)


def test_more_than_the_balance_is_refused() -> None:
    """A reservation over the balance is refused with `funds`."""
    with pytest.raises(MetaError) as refusal:
        ozone.reserve(branch_with(10), WALLET, 11)
    assert refusal.value.code == "funds"


def test_a_noz_from_nowhere_breaks_the_block() -> None:
    """A total that does not add up raises InvariantBroken, which makes the block invalid."""
    branch = branch_with(10)
    TOTALS.add(branch, ozone.BALANCES, 1)
    with pytest.raises(InvariantBroken, match="10 noz were sold but 11"):
        ozone.check_conserved(branch)


def test_genesis_prepays_are_the_first_balances() -> None:
    """The ledger's genesis decides the first balances: prepay n buys trunc(L * X / (S + P + X))."""
    net = Rehearsal(holders=0, users=2)
    stake, limit, paid, prepay = 400 * 10**18, 400 * 10**12, 0, 100 * 10**18
    for user in net.users:
        bought = limit * prepay // (stake + paid + prepay)
        paid, limit = paid + prepay, limit - bought
        assert BALANCE.get(net.state, user.address) == bought
