"""Authorities: candidates, polls and kicks (protocol 6)."""

from typing import Any

import pytest

STOS = 10**18


def _create(name: str = "m9", day: float = 0) -> dict[str, Any]:
    return {"day": day, "do": "create_meta_node", "name": name, "deposit": str(100 * STOS), "owner": "alice"}


def _vote(voter: str, *, approve: bool = True, **where: Any) -> dict[str, Any]:
    return {"do": "vote", "voter": voter, "candidate": "m9", "approve": approve, **where}


def _kick_vote(voter: str, target: str = "m4", *, approve: bool = True, **where: Any) -> dict[str, Any]:
    return {"do": "kick_vote", "voter": voter, "candidate": target, "approve": approve, **where}


def test_a_candidate_is_admitted_at_the_vote_that_reaches_the_quorum(run: Any, ask: Any) -> None:
    """3 of 4; only then does its deposit count in S, and it votes itself."""
    results = run(
        _create(),
        _vote("m1"),
        _vote("m2"),
        ask("register/meta_node/m9"),
        ask("state"),
        _vote("m3"),
        ask("register/meta_node/m9"),
        ask("state"),
        _vote("m4"),
    )
    assert results[3]["result"] == {
        "deposit": str(100 * STOS),
        "effective_deposit": "0",
        "status": "unbonded",
        "suspended": True,
        "creation_day": "0",
        "active": False,
        "votes_for": "2",
        "votes_against": "0",
        "poll_expires_day": "7",
    }
    assert results[4]["result"]["S"] == str(400 * STOS)
    assert (results[6]["result"]["active"], results[6]["result"]["status"]) == (True, "bonded")
    assert (results[7]["result"]["S"], results[7]["result"]["L"]) == (str(500 * STOS), str(500 * 10**12))
    assert results[8]["code"] == "expired"


@pytest.mark.parametrize(("metas", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_approvals_needed_by_active_nodes(run: Any, ask: Any, metas: int, needed: int) -> None:
    """floor(2n/3) + 1 of the active meta nodes."""
    votes = [_vote(f"m{n}") for n in range(1, needed + 1)]
    before = run(_create(), *votes[:-1], ask("register/meta_node/m9"), metas=metas)[-1]["result"]
    after = run(_create(), *votes, ask("register/meta_node/m9"), metas=metas)[-1]["result"]
    assert (before["active"], after["active"]) == (False, True)


def test_one_vote_per_active_meta_node(run: Any) -> None:
    """Twice, a stranger, a candidate itself, an unknown candidate: refused by code."""
    results = run(
        _create(),
        _vote("m1"),
        _vote("m1", approve=False),
        _vote("nobody"),
        _vote("m9"),
        {"do": "vote", "voter": "m1", "candidate": "m8", "approve": True},
    )
    assert [result["code"] for result in results[2:]] == ["duplicate", "unknown", "unknown", "unknown"]


def test_the_expiry_second_still_counts(run: Any, ask: Any) -> None:
    """A vote on day 7 sharp admits; one moment later it is expired and the deposit comes back on day 14."""
    on_time = run(_create(), _vote("m1", day=7), metas=1)
    assert on_time[1]["ok"]
    results = run(
        _create(),
        _vote("m1", day=7.00001),
        ask("register/meta_node/m9"),
        ask("bank/balances/alice", day=13.99999),
        ask("bank/balances/alice", day=14),
        ask("register/meta_node/m9"),
        metas=1,
    )
    assert results[1]["code"] == "expired"
    assert results[2]["result"]["status"] == "unbonding"
    assert (results[3]["result"], results[4]["result"]) == (str(900 * STOS), str(1000 * STOS))
    assert results[5]["result"]["status"] == "unbonded"


def test_a_failed_candidate_is_paid_in_the_first_block_after_its_day(run: Any, ask: Any) -> None:
    """Without any block between the poll's end and day 14, the deposit is back in the first block of day 14."""
    results = run(_create(), ask("bank/balances/alice", day=14), ask("register/meta_node/m9"))
    assert results[1]["result"] == str(1000 * STOS)
    assert results[2]["result"]["status"] == "unbonded"


def test_a_poll_closes_when_the_quorum_is_out_of_reach(run: Any, ask: Any) -> None:
    """With 4 active nodes two rejections end it; the deposit still waits for creation + 14 days."""
    results = run(
        _create(day=1),
        _vote("m1", approve=False),
        _vote("m2", approve=False),
        _vote("m3"),
        ask("register/meta_node/m9"),
        ask("bank/balances/alice", day=15),
        _create(day=15),
    )
    assert results[3]["code"] == "expired"
    assert results[4]["result"]["votes_against"] == "2"
    assert results[5]["result"] == str(1000 * STOS)
    assert results[6]["ok"]


def test_a_kick_needs_the_quorum_of_the_others(run: Any, ask: Any) -> None:
    """3 of the 3 others; the target neither votes nor counts, its deposit leaves S and returns like any other."""
    results = run(
        {"do": "kick", "from": "m1", "node": "m4"},
        _kick_vote("m4", approve=False),
        _kick_vote("m1"),
        _kick_vote("m2"),
        ask("register/meta_node/m4"),
        _kick_vote("m3"),
        ask("register/meta_node/m4"),
        ask("state"),
        {"day": 194, "do": "end_block"},
        ask("bank/balances/m4"),
    )
    assert results[1]["code"] == "invalid"
    assert results[4]["result"]["active"]
    assert (results[6]["result"]["active"], results[6]["result"]["status"]) == (False, "unbonding")
    assert results[7]["result"]["S"] == str(300 * STOS)
    assert results[9]["result"] == str(100 * STOS)


def test_the_proposer_of_a_kick_approves_it_unless_it_votes_otherwise(run: Any, ask: Any) -> None:
    """m1 opens, m2 and m3 agree: removed. m1 opens and rejects: closed."""
    kick = {"do": "kick", "from": "m1", "node": "m4"}
    agreed = run(kick, _kick_vote("m2"), _kick_vote("m3"), ask("register/meta_node/m4"))
    assert not agreed[3]["result"]["active"]
    changed = run(kick, _kick_vote("m1", approve=False), _kick_vote("m2"), ask("register/meta_node/m4"))
    assert changed[2]["code"] == "expired"
    assert changed[3]["result"]["active"]


def test_kicks_are_opened_once_and_expire(run: Any) -> None:
    """An open kick is not opened again; after its last second it can be."""
    kick = {"do": "kick", "from": "m1", "node": "m4"}
    results = run(
        _kick_vote("m1"),
        kick,
        kick,
        _kick_vote("m2", day=7.00002),
        kick,
        {"do": "kick", "from": "m1", "node": "m1"},
        {"do": "kick", "from": "r1", "node": "m1"},
    )
    assert [result.get("code") for result in results] == [
        "unknown",
        None,
        "duplicate",
        "expired",
        None,
        "invalid",
        "unknown",
    ]


def test_there_is_always_an_authority(run: Any, ask: Any) -> None:
    """The last active meta node cannot unbond; the one before it can."""
    results = run({"do": "unbond", "node": "m1"}, {"do": "unbond", "node": "m2"}, ask("register/meta_node/m2"), metas=2)
    assert results[0]["mature_day"] == "194"
    assert results[1]["code"] == "invalid"
    assert results[2]["result"]["active"]


def test_an_active_meta_deposit_grows_effectively(run: Any, ask: Any) -> None:
    """add_deposit of an active meta node moves S and L at once."""
    results = run(
        {"do": "send", "from": "alice", "to": "m1", "amount": str(STOS)},
        {"do": "add_deposit", "node": "m1", "amount": str(STOS)},
        ask("state"),
    )
    assert (results[2]["result"]["S"], results[2]["result"]["L"]) == (str(401 * STOS), str(401 * 10**12))


def test_a_candidate_may_withdraw(run: Any, ask: Any) -> None:
    """Unbonding a candidate closes its poll; the deposit returns at creation + 14 days."""
    results = run(_create(), {"do": "unbond", "node": "m9"}, _vote("m1"), ask("bank/balances/alice", day=14))
    assert results[1]["mature_day"] == "14"
    assert results[2]["code"] == "expired"
    assert results[3]["result"] == str(1000 * STOS)
