"""Whatever a script does, legal or not: no money appears, nothing goes below zero, refused means untouched."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.replay.runner import Runner
from orchestrator.replay.script import parse_script
from stratos.ledger import bank, distribution, register, rewards, sds, staking
from stratos.ledger.rules import Rules
from stratos.state import AuthMap, MemoryStore

WALLETS = ("alice", "bob", "r1", "r2", "m1", "v1")
RESOURCE = ("r1", "r2", "r3")
META = ("m1", "m2", "m3", "m4", "m5")

amounts = st.one_of(
    st.integers(0, 20),
    st.integers(1, 50).map(lambda stos: stos * 10**18),
    st.integers(0, 10**21),
).map(str)
nozes = st.one_of(st.integers(0, 5), st.integers(0, 10**10), st.integers(0, 2 * 10**14)).map(str)
wallets = st.sampled_from(WALLETS)
resource = st.sampled_from(RESOURCE)
meta = st.sampled_from(META)
voters = st.sampled_from(("v1", "v2", "r1"))
heights = st.sampled_from((0, 15, 25, 1000))


def _step(action: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"do": st.just(action), **fields})


messages = st.one_of(
    _step("prepay", **{"from": wallets, "amount": amounts}),
    _step("send", **{"from": wallets, "to": wallets, "amount": amounts}),
    _step("volume_report", epoch=st.integers(0, 12), volumes=st.lists(st.tuples(resource, nozes), max_size=4)),
    _step("withdraw", wallet=wallets, amount=amounts),
    _step("create_resource_node", name=resource, deposit=amounts, owner=wallets),
    _step("create_meta_node", name=meta, deposit=amounts, owner=wallets),
    _step("add_deposit", node=st.one_of(resource, meta), amount=amounts),
    _step("set_effective_deposit", node=resource, amount=amounts),
    _step("suspend", node=resource),
    _step("unsuspend", node=resource),
    _step("unbond", node=st.one_of(resource, meta)),
    _step("slash", node=resource, noz=nozes, suspend=st.booleans()),
    _step("leave", node=resource, migrated_noz=nozes, completed=st.booleans()),
    _step("vote", voter=meta, candidate=meta, approve=st.booleans()),
    _step("kick", **{"from": meta, "node": meta}),
    _step("kick_vote", voter=meta, candidate=meta, approve=st.booleans()),
    _step("delegate", **{"from": wallets, "validator": st.sampled_from(("v1", "v2")), "amount": amounts}),
    _step("undelegate", **{"from": wallets, "validator": st.sampled_from(("v1", "v2")), "amount": amounts}),
    _step("propose_upgrade", validator=voters, rules_version=st.integers(1, 2), at_height=heights),
    _step("vote_upgrade", validator=voters, rules_version=st.integers(1, 2), at_height=heights, approve=st.booleans()),
    _step("end_block"),
)
waits = st.sampled_from((0, 0, 0, 0, 1, 7, 14, 21, 190))


@st.composite
def scripts(draw: st.DrawFn) -> dict[str, Any]:
    steps = []
    day = 0
    for message in draw(st.lists(messages, min_size=1, max_size=30)):
        day += draw(waits)
        steps.append({**message, "day": day})
    return {
        "params": {
            "pot": {
                "mature_epoch": draw(st.integers(0, 4)),
                "mature_per_block": draw(st.sampled_from((1, 100))),
                "community_tax": draw(st.sampled_from(("0", "0.02", "1"))),
                "split_schedule": draw(st.sampled_from(("seed", "network"))),
            }
        },
        "genesis": {
            "accounts": {"alice": str(100 * 10**18), "bob": str(10**18 + 7), "r1": str(10**19), "m1": str(10**19)},
            "foundation": draw(st.sampled_from(("0", str(100 * 10**18 + 1), str(10**25)))),
            "total_mined": draw(st.sampled_from(("0", str(16_819_199 * 10**18), str(40_000_000 * 10**18)))),
            "meta_nodes": [
                {"name": name, "deposit": draw(st.sampled_from(("0", "7", str(10**20))))}
                for name in META[: draw(st.integers(1, 4))]
            ],
            "resource_nodes": [
                {"name": "r1", "deposit": str(10**18), "effective": draw(st.sampled_from(("0", str(10**18))))}
            ],
            "validators": [
                {"name": "v1", "stake": str(10**18), "commission_bp": 500},
                {"name": "v2", "stake": str(3 * 10**18)},
            ],
        },
        "steps": steps,
    }


def _root(state: MemoryStore) -> bytes:
    return AuthMap().update(dict(state.items(b""))).root


def _copy(state: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    copy.apply(dict(state.items(b"")))
    return copy


def _check(state: MemoryStore, rules: Rules) -> None:
    balances = dict(bank.BALANCES.items(state))
    assert sum(balances.values()) == bank.supply(state)
    nodes = [node for table in (register.RESOURCE, register.META) for _, node in table.items(state)]
    locked = sum(node.deposit for node in nodes)
    assert locked == bank.balance(state, bank.DEPOSITS)
    assert locked == register.RESOURCE_DEPOSITS.get(state) + register.META_DEPOSITS.get(state)
    effective = sum(node.effective for node in nodes)
    assert effective == sds.EFFECTIVE_DEPOSITS.get(state)
    assert all(node.effective <= node.deposit for node in nodes)
    assert any(node.active for _, node in register.META.items(state))
    owed = sum(amount for table in (rewards.IMMATURE_TOTAL, rewards.MATURE) for _, amount in table.items(state))
    assert owed == bank.balance(state, bank.TOTAL_REWARD)
    parts = sum(
        int(part.mining_wei) + int(part.traffic_wei)
        for _, record in rewards.IMMATURE_PARTS.items(state)
        for part in record
    )
    assert parts == sum(amount for _, amount in rewards.IMMATURE_TOTAL.items(state))
    tokens = sum(int(record.tokens_wei) for _, record in distribution.VALIDATORS.items(state))
    leaving = sum(int(queued.amount_wei) for _, queued in staking._UNBONDING.items(state))
    assert tokens + leaving == bank.balance(state, bank.STAKES)
    assert distribution.ALLOCATED.get(state) <= bank.balance(state, bank.FEE_COLLECTOR)
    market = sds.market(state)
    backed = sds.total_limit(rules, market.deposits_wei)
    truncated = 2 * len(nodes) + 40
    assert abs(market.limit_noz + market.outstanding_noz - market.deficit_noz - backed) <= truncated


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(script=scripts())
def test_any_script_conserves_money_and_a_refused_step_is_only_a_block(script: dict[str, Any]) -> None:
    """After every step all sums agree; a refused step leaves what a mere end of block would have left."""
    checked = parse_script(json.dumps(script))
    runner = Runner(checked)
    rules = Rules.parse(checked.params)
    for step, raw in zip(checked.steps, script["steps"], strict=True):
        before = _copy(runner.state)
        result = runner.step(step)
        if not result["ok"]:
            idle = Runner(
                parse_script(
                    json.dumps({**script, "steps": [{"do": "end_block", "day": raw["day"], "height": step.height}]})
                )
            )
            idle._store = before
            idle.run()
            assert _root(idle.state) == _root(runner.state), result
        _check(runner.state, rules)
