"""`upgrade`: running nodes get another image, batch by batch, and each batch must be well before the next is touched.

What is wanted is written first (`image.json`), then, batch by batch, who is underway, and the plan. So wherever this is interrupted
the same command first sees the batch through that was underway, and goes on with the nodes that have not been replaced.
The first node that does not become healthy, or whose layer makes no progress with it, stops everything and is named, this time
and every time until it is mended; the others go on with what they run. A rollback is the same walk back to the image before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, structs

from orchestrator.chain_api import ChainApi, ChainUnreachable
from orchestrator.errors import BadInput, EnvironmentFault, PartialFailure
from orchestrator.image.versions import rules_of_image
from orchestrator.plan.plan import ImageWish, NodePlan, Plan
from orchestrator.plan.rolling import Batch, Rollable, batches, voting_power
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder, files_of
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet
from orchestrator.testnet.maintenance import set_maintenance
from orchestrator.testnet.readiness import Ready, layer_height, wait_ready
from orchestrator.topology.topology import PROCESS

BATCH_SECONDS = 120.0
"""How long a replaced batch may take until it is healthy and its layer has gone on."""
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
        _refuse_older_rules(folder, plan, wish.wanted)
        journal = Journal(folder.journal_file, "upgrade")
        journal.step("begun", image=wish.wanted, previous=wish.previous)
        folder.save_image_wish(wish)
        done = _Walk(folder, plan, wish, journal, say).run(allow_halt=allow_halt)
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
    valid = before if before is not None and before.inventory == inventory else None
    if rollback:
        if valid is None or not valid.previous:
            raise BadInput(
                f"{plan.name} was not upgraded yet, so there is nothing to go back to; name an image instead"
            )
        return structs.replace(valid, wanted=valid.previous, previous=valid.wanted)
    if not image:
        raise BadInput("name the image to upgrade to with --image TAG, or go back with --rollback")
    current = valid.wanted if valid is not None else inventory
    if image == current:  # the same command again, after an interruption
        return valid if valid is not None else ImageWish(wanted=image, inventory=inventory)
    begun = valid if valid is not None else ImageWish(wanted=current, inventory=inventory)
    return structs.replace(begun, wanted=image, previous=current)


def _refuse_older_rules(folder: TestnetFolder, plan: Plan, image: str) -> None:
    """An image that does not know the rules in force, or those that will be, would stop every node it is given to."""
    known = rules_of_image(image)
    try:
        found = ChainApi(folder.endpoints()).get("/stratos/upgrade/v1/plan")
    except ChainUnreachable as error:
        raise EnvironmentFault(f"{plan.name} cannot be upgraded while its chain does not answer: {error}") from error
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


class _Walk:
    """One walk through the batches."""

    def __init__(self, folder: TestnetFolder, plan: Plan, wish: ImageWish, journal: Journal, say: Say) -> None:
        self.folder = folder
        self.plan = plan
        self.wish = wish
        self.image = wish.wanted
        self.journal = journal
        self.say = say
        self.ring = folder.ring()
        self.genesis = folder.need_genesis()

    def run(self, *, allow_halt: bool) -> list[BatchReport]:
        """Every batch in turn."""
        upgraded = self._with_image({node.name for node in self.plan.nodes})
        runtime = runtime_for(upgraded, self.folder.path, say=self.say)
        try:
            states = runtime.status()
            lost = {name: sentence for name, sentence in runtime.quarantine.items() if name in states}
            behind = [node for node in self.plan.nodes if node.image != self.image or not states[node.name].current]
            self._see_through(runtime, behind, lost)
            planned = self._batches([node for node in behind if node.name not in lost], allow_halt=allow_halt)
            if planned:
                self.say(f"bringing {self.image} to where it is needed")
                runtime.prepare(files_of(upgraded, self.ring, self.genesis))
                lost |= runtime.quarantine
                planned = self._batches([node for node in behind if node.name not in lost], allow_halt=allow_halt)
        finally:
            runtime.close()
        reports = [self._replace(batch, number, len(planned)) for number, batch in enumerate(planned, 1)]
        if lost:
            raise PartialFailure(
                f"upgraded {sum(len(one.names) for one in reports)} nodes of {self.plan.name} to {self.image}; "
                f"not reached: {'; '.join(dict.fromkeys(lost.values()))}; run the same command again"
            )
        return reports

    def _see_through(self, runtime: Runtime, behind: Sequence[NodePlan], lost: Mapping[str, str]) -> None:
        """Wait for nodes that an interrupted run has replaced and not waited for; the others of its batch are still behind."""
        again = {node.name for node in behind} | lost.keys()
        names = [node.name for node in self.plan.nodes if node.name in self.wish.underway and node.name not in again]
        if names:
            self.say(f"looking after {', '.join(names)}, replaced by a run that was interrupted")
            self._settle(runtime, names, above=0)

    def _settle(self, runtime: Runtime, names: Sequence[str], *, above: int) -> Ready:
        """Wait until these replaced nodes are well and give them their work back; raises PartialFailure naming them."""
        listed = ", ".join(names)
        try:
            ready = wait_ready(
                self.plan, runtime, deadline_seconds=BATCH_SECONDS, say=self.say, only=list(names), above=above
            )
            for name in (name for name in names if name in self.wish.resting):
                set_maintenance(self.folder, runtime, name, False, say=self.say)
        except (PartialFailure, EnvironmentFault) as error:
            raise self._stopped(listed, error) from error
        self._note(underway=(), resting=tuple(name for name in self.wish.resting if name not in names))
        return ready

    def _stopped(self, listed: str, error: Exception) -> PartialFailure:
        self.journal.step("stopped", nodes=listed, reason=str(error))
        return PartialFailure(
            f"the upgrade of {self.plan.name} stopped at {listed}: {error}; the nodes after it run what they ran. "
            "Mend it and run the same command again, or go back with `stratosctl upgrade --rollback`"
        )

    def _note(self, *, underway: tuple[str, ...], resting: tuple[str, ...]) -> None:
        """Write how far we are, before the next thing is touched."""
        noted = structs.replace(self.wish, underway=underway, resting=resting)
        if noted != self.wish:
            self.wish = noted
            self.folder.save_image_wish(noted)

    def _batches(self, behind: Sequence[NodePlan], *, allow_halt: bool) -> tuple[Batch, ...]:
        found = ChainApi(self.folder.endpoints()).get("/stratos/staking/v1/validators")["validators"]
        tokens = {
            one["address"]: int(one["tokens_wei"]) for one in found if not one["jailed"] and not one["tombstoned"]
        }
        power = voting_power({n.node: n.stake_wei for n in self.plan.nodes if n.role == "validator"}, tokens)
        return batches(
            [
                Rollable(name=n.name, role=n.role, region=n.config.region, power_wei=power.get(n.node, 0))
                for n in behind
            ],
            total_power_wei=sum(power.values()),
            validators=len(power),
            meta_nodes=sum(n.role == "meta" for n in self.plan.nodes),
            holders=sum(n.role == "resource" for n in self.plan.nodes),
            copies=self.genesis.meta.copies,
            allow_halt=allow_halt,
        )

    def _replace(self, batch: Batch, number: int, total: int) -> BatchReport:
        began = time.monotonic()
        listed = ", ".join(batch.names)
        self.say(f"batch {number} of {total}: {listed}" + (" (its layer halts meanwhile)" if batch.halts else ""))
        height = layer_height(self.plan, batch.role)
        self._note(underway=batch.names, resting=self.wish.resting)
        self.plan = self._with_image({*batch.names, *(n.name for n in self.plan.nodes if n.image == self.image)})
        self.folder.save_plan(self.plan)
        runtime = runtime_for(self.plan, self.folder.path, say=self.say)
        try:
            try:
                self._restart(runtime, batch)
            except (PartialFailure, EnvironmentFault) as error:
                raise self._stopped(listed, error) from error
            ready = self._settle(runtime, batch.names, above=height)
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
            self._rest(runtime, batch.names)
        runtime.start(list(batch.names), timeout_seconds=BATCH_SECONDS)
        for name in batch.names:
            if name in runtime.quarantine:
                raise EnvironmentFault(runtime.quarantine[name])

    def _rest(self, runtime: Runtime, names: Sequence[str]) -> None:
        """Into maintenance; who was there on somebody's word stays there afterwards."""
        before = self.wish.resting
        self._note(underway=self.wish.underway, resting=tuple(dict.fromkeys((*before, *names))))
        theirs = {
            name
            for name in names
            if not set_maintenance(self.folder, runtime, name, True, say=self.say) and name not in before
        }
        self._note(underway=self.wish.underway, resting=tuple(name for name in self.wish.resting if name not in theirs))

    def _with_image(self, names: set[str]) -> Plan:
        nodes = tuple(
            structs.replace(node, image=self.image) if node.name in names else node for node in self.plan.nodes
        )
        return structs.replace(self.plan, nodes=nodes)
