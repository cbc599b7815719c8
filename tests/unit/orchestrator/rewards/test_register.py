"""Who can be named in a proof of a payout."""

import pytest

from orchestrator.errors import BadInput
from orchestrator.plan.plan import Existing, make_plan
from orchestrator.rewards.register import CertifiedRegister
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology


def test_a_validator_is_told_why_it_has_no_provable_payout() -> None:
    """A validator is in the table of rewards, so naming it is not answered as if it were unknown."""
    planned = make_plan(
        topology(), Existing(), SEARCH, random=counter(), time_ms=1_800_000_000_000, is_free=lambda _: True
    )
    register = CertifiedRegister(planned.genesis)
    assert register.find("m1").role == "meta"
    with pytest.raises(BadInput, match="is a validator"):
        register.find("v1")
    with pytest.raises(BadInput, match="known are m1"):
        register.find("nobody")
