"""A change of the chain's rules, voted by the operators of our validators.

`schedule_rules` looks at what the chain says first (in force, planned, proposed), so calling it again goes on where it
stopped and a finished change is only reported. Who lacks the program for the new rules is said aloud: that validator will stop
at the height, as it should, until its image is newer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Struct

from orchestrator.chain_api import ChainApi, Committed
from orchestrator.errors import BadInput, PartialFailure
from orchestrator.node_status import all_statuses
from orchestrator.plan.plan import NodePlan
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.rules_notes import old_programs
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.ledger.rulebook import NEWEST_RULES
from stratos.wire.genesis import genesis_hash
from stratos.wire.txs import Message, ProposeUpgrade, VoteUpgrade

LEAD_SECONDS = 20.0
PACE_BLOCKS = 20
"""Blocks over which the pace of the chain is measured."""
VOTING_BLOCKS = 10
"""Blocks kept free for the votes themselves, beside the chain's own notice."""


class ScheduledRules(Struct, frozen=True, kw_only=True):
    """Rules `version` hold from block `height` on. `in_force`: that block exists already; `changed`: this call did it."""

    version: int
    height: int
    in_force: bool
    changed: bool


class _Operator(Struct, frozen=True):
    """One of our validators with its operator's wallet."""

    name: str
    node: NodeKey
    wallet: WalletKey


def schedule_rules(
    folder: TestnetFolder,
    version: int,
    height: int | None = None,
    *,
    say: Callable[[str], None],
    lead_seconds: float = LEAD_SECONDS,
) -> ScheduledRules:
    """Have rules `version` begin at `height` (None: about `lead_seconds` from now) by the votes of our validators.

    Raises BadInput for a version that this tool does not know or a height the chain refuses, PartialFailure when the
    power of our validators does not suffice: others must vote, and calling again reports what came of it.
    """
    if not 1 <= version <= NEWEST_RULES:
        raise BadInput(f"rules version {version} is unknown here; this program knows 1 to {NEWEST_RULES}")
    vote = _RulesVote(folder)
    found = vote.look()
    done = _settled(found, version, height)
    if done is not None:
        return done
    for line in old_programs(all_statuses(_validators(folder)), version):
        say(line)
    poll = next((one for one in found["polls"] if _is_about(one, version, height)), None)
    if poll is None:
        wanted = height if height is not None else vote.height_in(lead_seconds, int(found["notice_blocks"]))
        say(f"proposing rules version {version} from block {wanted} on")
        vote.propose(version, wanted)
        found = vote.look()
        poll = next((one for one in found["polls"] if _is_about(one, version, wanted)), None)
    else:
        wanted = int(poll["height"])
    if poll is not None:
        say(f"voting for rules version {version} at block {wanted}")
        vote.approve(version, wanted, given=frozenset(poll["approvals"]))
        found = vote.look()
    done = _settled(found, version, wanted)
    if done is None:
        raise PartialFailure(
            f"rules version {version} at block {wanted} has the votes of our validators and not more than two thirds of "
            "the power; the other operators vote with `stratosctl tx vote-upgrade`, then run this again"
        )
    return ScheduledRules(version=done.version, height=done.height, in_force=done.in_force, changed=True)


class _RulesVote:
    """Asks the chain and signs for the operators."""

    def __init__(self, folder: TestnetFolder) -> None:
        ring = folder.ring()
        self._api = ChainApi(folder.endpoints())
        self._hash = genesis_hash(folder.need_genesis())
        self.operators = tuple(
            _Operator(node.name, ring.nodes[node.name].node_key(), ring.nodes[node.name].owner_key())
            for node in _validators(folder)
            if node.name in ring.nodes
        )
        if not self.operators:
            raise BadInput(
                f"testnet {folder.name} operates no validator, so it has no vote on rules; ask one that does"
            )

    def look(self) -> dict[str, Any]:
        """Rules in force, plan and polls."""
        found: dict[str, Any] = self._api.get("/stratos/upgrade/v1/plan")
        return found

    def height_in(self, seconds: float, notice_blocks: int) -> int:
        """A height about so far in the future at the pace of the last blocks, and never too near to vote on."""
        newest = self._api.header(0).header
        before = self._api.header(max(1, newest.height - PACE_BLOCKS)).header
        blocks = 0
        if newest.height > before.height:
            per_block = max(1, newest.time_ms - before.time_ms) / 1000 / (newest.height - before.height)
            blocks = math.ceil(seconds / per_block)
        return newest.height + max(blocks, notice_blocks + VOTING_BLOCKS)

    def propose(self, version: int, height: int) -> None:
        """The first of our validators that votes proposes."""
        refusals = []
        for operator in self.operators:
            done = self._send(operator, ProposeUpgrade(operator.node.address, version, height))
            if done.code in ("ok", "duplicate"):
                return
            refusals.append(f"{operator.name}: {done.error}")
            if done.code != "unknown":  # unknown: this validator does not vote at present
                break
        raise BadInput(f"the chain refused the proposal ({'; '.join(refusals)})")

    def approve(self, version: int, height: int, *, given: frozenset[str]) -> None:
        """All who have not yet (`given`: node addresses) approve at once; votes after the poll has passed are not needed."""
        asked = [operator for operator in self.operators if operator.node.text not in given]
        with ThreadPoolExecutor(max_workers=16) as pool:
            for _ in pool.map(
                lambda one: self._send(one, VoteUpgrade(one.node.address, version, height, approve=True)), asked
            ):
                pass

    def _send(self, operator: _Operator, message: Message) -> Committed:
        return self._api.send(operator.wallet, message, genesis_hash=self._hash)


def _settled(found: dict[str, Any], version: int, height: int | None) -> ScheduledRules | None:
    """What the chain has decided about this version already, None when nothing (or another height than `height`)."""
    holding, plan = int(found["rules_version"]), found["plan"]
    if holding == version:
        return ScheduledRules(version=holding, height=int(found["since_height"]), in_force=True, changed=False)
    if holding > version:
        raise BadInput(f"rules version {holding} holds already and rules only go on; {version} is older")
    if plan is not None and _is_about(plan, version, height):
        return ScheduledRules(version=version, height=int(plan["height"]), in_force=False, changed=False)
    return None


def _is_about(planned: dict[str, Any], version: int, height: int | None) -> bool:
    return int(planned["rules_version"]) == version and height in (None, int(planned["height"]))


def _validators(folder: TestnetFolder) -> list[NodePlan]:
    return [node for node in folder.need_plan().nodes if node.role == "validator"]
