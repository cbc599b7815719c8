"""`upgrade`: running nodes get another image, batch by batch, and each batch must be well before the next is touched.

What is wanted is written first (`image.json`), then the plan is rewritten batch by batch, so wherever this is interrupted
the same command goes on with the nodes that have not been replaced. Before it touches another one, those that were must be
well: an interrupted run may have left one that is not, or one that is still in maintenance for its restart. The first node
that does not become healthy, or whose layer makes no progress with it, stops everything and is named; the others go on with
what they run. A rollback is the same walk back to the image before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from orchestrator.chain_api import ChainApi, ChainUnreachable
from orchestrator.errors import BadInput, EnvironmentFault, PartialFailure
from orchestrator.image.versions import rules_of_image
from orchestrator.node_status import all_statuses
from orchestrator.plan.plan import START_ORDER, ImageWish, NodePlan, Plan
from orchestrator.plan.rolling import Batch, Rollable, batches, voting_power
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.protocol import NodeState, Runtime
from orchestrator.testnet.folder import TestnetFolder, files_of
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet
from orchestrator.testnet.maintenance import set_maintenance
from orchestrator.testnet.readiness import layer_height, wait_ready
from orchestrator.topology.topology import PROCESS

BATCH_SECONDS = 120.0
"""How long a replaced batch may take until it is healthy and its layer has gone on."""
ANSWER_SECONDS = 30.0
LOOK_SECONDS = 0.1
Say = Callable[[str], None]


class BatchReport(Struct, frozen=True, kw_only=True):
    """A batch that was replaced and found healthy. `height`: of its layer afterwards, 0 for resource nodes."""

    role: str
    names: tuple[str, ...]
    region: str
    seconds: float
    height: int


class UpgradeReport(Struct, frozen=True, kw_only=True):
    """What `upgrade` did. `changed` counts the nodes that were replaced."""

    testnet: str
    image: str
    previous: str
    changed: int
    batches: tuple[BatchReport, ...]
    seconds: float


def upgrade_testnet(
    folder: TestnetFolder, *, image: str | None, rollback: bool = False, allow_halt: bool = False, say: Say
) -> UpgradeReport:
    """Replace every node that does not run `image` (with `rollback`: the image before); raises BadInput,
    EnvironmentFault, or PartialFailure naming the host at which it stopped."""
    began = time.monotonic()
    with hold_testnet(folder.path.parent, folder.name):
        plan = folder.need_plan()
        if plan.runtime == PROCESS:
            raise BadInput(f"the nodes of {plan.name} are processes of this checkout; `stratosctl up` replaces them")
        wish = _wish(plan, folder.image_wish(), image=image, rollback=rollback)
        _refuse_older_rules(folder, plan, wish.wanted, halted=rollback or allow_halt, say=say)
        journal = Journal(folder.journal_file, "upgrade")
        journal.step("begun", image=wish.wanted, previous=wish.previous)
        folder.save_image_wish(wish)
        done = _Walk(folder, plan, wish.wanted, journal, say).run(allow_halt=allow_halt, back=rollback)
    return UpgradeReport(
        testnet=plan.name,
        image=wish.wanted,
        previous=wish.previous,
        changed=sum(len(batch.names) for batch in done),
        batches=tuple(done),
        seconds=round(time.monotonic() - began, 3),
    )


def _wish(plan: Plan, before: ImageWish | None, *, image: str | None, rollback: bool) -> ImageWish:
    """What is wanted now; a rollback swaps what is wanted with what was there before."""
    inventory = plan.inventory_image
    resting = before.resting if before is not None else ()
    valid = before if before is not None and before.inventory == inventory else None
    if rollback:
        if valid is None or not valid.previous:
            raise BadInput(
                f"{plan.name} was not upgraded yet, so there is nothing to go back to; name an image instead"
            )
        return ImageWish(wanted=valid.previous, previous=valid.wanted, inventory=inventory, resting=resting)
    if not image:
        raise BadInput("name the image to upgrade to with --image TAG, or go back with --rollback")
    current = valid.wanted if valid is not None else inventory
    if image == current:  # the same command again, after an interruption
        return valid if valid is not None else ImageWish(wanted=image, inventory=inventory, resting=resting)
    return ImageWish(wanted=image, previous=current, inventory=inventory, resting=resting)


def _refuse_older_rules(folder: TestnetFolder, plan: Plan, image: str, *, halted: bool, say: Say) -> None:
    """An image that does not know the rules in force, or those that will be, would stop every node it is given to.

    `halted`: the chain may stand still, as after an image that did not start: then what mends it must not wait for it.
    """
    known = rules_of_image(image)
    try:
        found = ChainApi(folder.endpoints()).get("/stratos/upgrade/v1/plan")
    except ChainUnreachable as error:
        if halted:
            say(f"the chain does not answer: a validator whose {image} does not know its rules will say so and stop")
            return
        raise EnvironmentFault(
            f"{plan.name} cannot be upgraded while its chain does not answer: {error}; go back with `stratosctl upgrade "
            "--rollback`, or go on all the same with --allow-halt"
        ) from error
    active, planned = int(found["rules_version"]), found["plan"]
    if known < active:
        raise BadInput(
            f"{image} knows rules up to version {known}, and the chain follows version {active}; "
            f"name an image that knows {active}"
        )
    if planned is not None and known < int(planned["rules_version"]):
        raise BadInput(
            f"{image} knows rules up to version {known}, and version {planned['rules_version']} is voted for and comes into "
            f"force at height {planned['height']}; name an image that knows it"
        )


def _runs(state: NodeState) -> bool:
    """Whether it runs what was placed last: a container may be the right one and end again and again."""
    return state.current and state.pid != 0


class _Walk:
    """One walk through the batches."""

    def __init__(self, folder: TestnetFolder, plan: Plan, image: str, journal: Journal, say: Say) -> None:
        self.folder = folder
        self.plan = plan
        self.image = image
        self.journal = journal
        self.say = say
        self.ring = folder.ring()
        self.genesis = folder.need_genesis()

    def run(self, *, allow_halt: bool, back: bool) -> list[BatchReport]:
        """Every batch in turn. `back`: a rollback, which does not wait for nodes that run the wanted image already."""
        upgraded = self._with_image({node.name for node in self.plan.nodes})
        runtime = runtime_for(upgraded, self.folder.path, say=self.say)
        try:
            states = runtime.status()
            lost = {name: sentence for name, sentence in runtime.quarantine.items() if name in states}
            behind = [node for node in self.plan.nodes if node.image != self.image or not _runs(states[node.name])]
            waiting = {node.name for node in behind} | lost.keys()
            self._await_answers([node for node in self.plan.nodes if node.name not in waiting])
            planned = self._batches([node for node in behind if node.name not in lost], allow_halt=allow_halt)
            if planned:
                self.say(f"bringing {self.image} to where it is needed")
                runtime.prepare(files_of(upgraded, self.ring, self.genesis))
                lost |= runtime.quarantine
                planned = self._batches([node for node in behind if node.name not in lost], allow_halt=allow_halt)
        finally:
            runtime.close()
        done = {node.name for node in self.plan.nodes} - {node.name for node in behind} - set(lost)
        down = {node.name for node in behind if states[node.name].pid == 0}
        reports = self._go(planned, done=done, down=down, wait=not back)
        if lost:
            raise PartialFailure(
                f"upgraded {sum(len(one.names) for one in reports)} nodes of {self.plan.name} to {self.image}; "
                f"not reached: {'; '.join(dict.fromkeys(lost.values()))}; run the same command again"
            )
        return reports

    def _await_answers(self, running: Sequence[NodePlan]) -> None:
        """Give those a while that run and do not answer yet: an interrupted run may have started them a moment ago, and whoever
        counts as away changes what may be replaced."""
        asked = [node for node in running if node.role != "resource"]
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            answers = all_statuses(asked)
            asked = [node for node in asked if answers[node.name] is None]
            if not asked:
                return
            self.say(f"waiting for {', '.join(node.name for node in asked)} to answer")
            time.sleep(LOOK_SECONDS)

    def _go(self, planned: Sequence[Batch], *, done: set[str], down: set[str], wait: bool) -> list[BatchReport]:
        """Replace batch after batch. Before a node that runs is touched, those of its role that are `done` must be well; those
        that are `down` are started before that, because the layer may stand still without them."""
        reports: list[BatchReport] = []
        unsettled = list(START_ORDER)
        for role in START_ORDER:
            if not any(batch.role == role for batch in planned):
                unsettled.remove(role)
                self._settle(role, done, wait=wait)
        for number, batch in enumerate(planned, 1):
            if batch.role in unsettled and not set(batch.names) <= down:
                unsettled.remove(batch.role)
                self._settle(batch.role, done, wait=wait)
            reports.append(self._replace(batch, number, len(planned)))
        for role in unsettled:
            self._settle(role, done, wait=wait)
        return reports

    def _settle(self, role: str, done: set[str], *, wait: bool) -> None:
        """What an interrupted run has replaced must be well, and is taken out of the maintenance it was put into."""
        names = [node.name for node in self.plan.nodes if node.role == role and node.name in done]
        if not names:
            return
        runtime = runtime_for(self.plan, self.folder.path, say=self.say)
        try:
            if wait:
                height = layer_height(self.plan, role)
                wait_ready(self.plan, runtime, deadline_seconds=BATCH_SECONDS, say=self.say, only=names, above=height)
            self._wake(names, runtime)
        except (PartialFailure, EnvironmentFault) as error:
            self.journal.step("stopped", nodes=names, reason=str(error))
            raise PartialFailure(
                f"the upgrade of {self.plan.name} goes no further while a node that runs {self.image} already is not "
                f"well: {error}. Mend it and run the same command again, or go back with `stratosctl upgrade --rollback`"
            ) from error
        finally:
            runtime.close()

    def _batches(self, behind: Sequence[NodePlan], *, allow_halt: bool) -> tuple[Batch, ...]:
        try:
            found = ChainApi(self.folder.endpoints()).get("/stratos/staking/v1/validators")["validators"]
        except ChainUnreachable:  # it stands still, and somebody said that this is no reason not to go on
            found = []
        tokens = {
            one["address"]: int(one["tokens_wei"]) for one in found if not one["jailed"] and not one["tombstoned"]
        }
        power = voting_power({n.node: n.stake_wei for n in self.plan.nodes if n.role == "validator"}, tokens)
        answers = all_statuses([n for n in self.plan.nodes if n.role != "resource"])
        away = [n for n in self.plan.nodes if n.name in answers and answers[n.name] is None]
        return batches(
            [
                Rollable(
                    name=n.name, role=n.role, region=n.config.region, power_wei=power.get(n.node, 0), away=n in away
                )
                for n in behind
            ],
            total_power_wei=sum(power.values()),
            away_power_wei=sum(power.get(n.node, 0) for n in away),
            validators=len(power),
            meta_nodes=sum(n.role == "meta" for n in self.plan.nodes),
            away_meta=sum(n.role == "meta" for n in away),
            holders=sum(n.role == "resource" for n in self.plan.nodes),
            copies=self.genesis.meta.copies,
            allow_halt=allow_halt,
        )

    def _replace(self, batch: Batch, number: int, total: int) -> BatchReport:
        began = time.monotonic()
        listed = ", ".join(batch.names)
        self.say(f"batch {number} of {total}: {listed}" + (" (its layer halts meanwhile)" if batch.halts else ""))
        height = layer_height(self.plan, batch.role)
        self.plan = self._with_image({*batch.names, *(n.name for n in self.plan.nodes if n.image == self.image)})
        self.folder.save_plan(self.plan)
        runtime = runtime_for(self.plan, self.folder.path, say=self.say)
        try:
            self._restart(runtime, batch)
            ready = wait_ready(
                self.plan, runtime, deadline_seconds=BATCH_SECONDS, say=self.say, only=list(batch.names), above=height
            )
            self._wake(batch.names, runtime)
        except (PartialFailure, EnvironmentFault) as error:
            self.journal.step("stopped", nodes=batch.names, reason=str(error))
            raise PartialFailure(
                f"the upgrade of {self.plan.name} stopped at {listed}: {error}; the nodes after it run what they ran. "
                "Mend it and run the same command again, or go back with `stratosctl upgrade --rollback`"
            ) from error
        finally:
            runtime.close()
        self.journal.step("replaced", nodes=batch.names, image=self.image)
        reached = {"validator": ready.height, "meta": ready.meta_height}.get(batch.role, 0)
        return BatchReport(
            role=batch.role,
            names=batch.names,
            region=batch.region,
            seconds=round(time.monotonic() - began, 3),
            height=reached,
        )

    def _restart(self, runtime: Runtime, batch: Batch) -> None:
        runtime.place(files_of(self.plan, self.ring, self.genesis))
        if batch.role == "resource":
            for name in batch.names:
                self._rest(name, runtime)
        runtime.start(list(batch.names), timeout_seconds=BATCH_SECONDS)
        for name in batch.names:
            if name in runtime.quarantine:
                raise EnvironmentFault(runtime.quarantine[name])

    def _rest(self, name: str, runtime: Runtime) -> None:
        """Put a resource node into maintenance; that it is ours to end is written first. An operator's stays an operator's."""
        before = self._resting()
        self._save_resting(before | {name})
        if not set_maintenance(self.folder, runtime, name, True, say=self.say) and name not in before:
            self._save_resting(before)

    def _wake(self, names: Sequence[str], runtime: Runtime) -> None:
        """Take those out of maintenance that an upgrade put there."""
        for name in sorted(self._resting() & set(names)):
            set_maintenance(self.folder, runtime, name, False, say=self.say)
            self._save_resting(self._resting() - {name})

    def _resting(self) -> frozenset[str]:
        wish = self.folder.image_wish()
        return frozenset(wish.resting) if wish is not None else frozenset()

    def _save_resting(self, names: frozenset[str]) -> None:
        wish = self.folder.image_wish()
        assert wish is not None  # written before the walk began
        self.folder.save_image_wish(structs.replace(wish, resting=tuple(sorted(names))))

    def _with_image(self, names: set[str]) -> Plan:
        nodes = tuple(
            structs.replace(node, image=self.image) if node.name in names else node for node in self.plan.nodes
        )
        return structs.replace(self.plan, nodes=nodes)
