"""Taking a node out of a running testnet so that nobody misses it; only then is it stopped.

    resource    maintenance (no new tasks), unbond, wait until every slice it holds has its copies elsewhere
    meta        unbond, wait until the set without it votes; refused when the others would be no quorum
    validator   undelegate, wait until it is out of the set (two blocks later); refused when the others could not go on

Every step first looks at what chain and meta layer say, so a run that was interrupted, or whose time was up, is finished by
the next one. Until then the node runs and does its duty. A resource node that goes before its cooling-off is over forfeits its
immature rewards (protocol 6): that is said with the amount, and `wait_cooling_off` keeps the node until nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from orchestrator.chain_api import ChainUnreachable
from orchestrator.errors import PartialFailure, StratosctlError
from orchestrator.node_status import all_statuses, base_status
from orchestrator.plan.keys import KeyRing
from orchestrator.plan.plan import Plan, http_url
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.departure import meta_must_stay, slices_must_stay, validator_must_stay
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.holders import ACTIVE, REMOVED, UNBONDING, HolderView, read_holders
from orchestrator.testnet.maintenance import FLAG
from orchestrator.testnet.readiness import meta_addresses
from orchestrator.testnet.registration import Registrar
from stratos.wire.config import NodeConfig

LOOK_SECONDS = 0.2
SETTLE_SECONDS = 10.0
"""How long newcomers that are registered already may take to be counted."""


class StillThere(PartialFailure):
    """The node could not be taken out in time, or not at all now; it goes on running."""


class DrainSettings(Struct, frozen=True, kw_only=True):
    """`seconds`: how long to wait for one node. `force`: stop it all the same. `wait_cooling_off`: not before it loses nothing."""

    seconds: float
    force: bool = False
    wait_cooling_off: bool = False


class Draining:
    """Takes nodes of one testnet out, one after the other. `plan` is the plan without them."""

    def __init__(
        self,
        folder: TestnetFolder,
        plan: Plan,
        ring: KeyRing,
        runtime: Runtime,
        settings: DrainSettings,
        *,
        say: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.ring = ring
        self.runtime = runtime
        self.settings = settings
        self.say = say
        self._deadline = 0.0

    def remove(self, name: str) -> str:
        """Take one node out, stop it and put its home aside; what was done, as a sentence. Raises StillThere."""
        self._deadline = time.monotonic() + self.settings.seconds
        config = self.folder.placed().get(name)
        if config is None or name not in self.ring.nodes:
            done = "it was never set up"
        else:
            try:
                done = self._leave(name, config)
            except ChainUnreachable as error:
                done = self._unforced(name, f"its leaving could not be registered: {error}")
        self.runtime.stop([name])
        where = self.runtime.forget([name])
        aside = self.folder.retire(name)
        return f"{name} removed: {done}; {where or f'its home is kept in {aside}'}"

    def _leave(self, name: str, config: NodeConfig) -> str:
        registrar = Registrar(self.folder, self.ring, say=self.say)
        leave = {"resource": self._resource, "meta": self._meta, "validator": self._validator}[config.role]
        try:
            return leave(name, config, registrar)
        except (StillThere, ChainUnreachable):
            raise
        except StratosctlError as error:
            return self._unforced(name, f"it was not taken out: {error}")

    def _unforced(self, name: str, sentence: str) -> str:
        """The phrase for a node that is stopped by force; StillThere when nobody asked for that."""
        if self.settings.force:
            return sentence
        raise StillThere(f"{name} goes on running, because {sentence}; run `up` again, or `up --force` to stop it")

    # -- resource nodes

    def _resource(self, name: str, _config: NodeConfig, registrar: Registrar) -> str:
        address = self.ring.nodes[name].node_key().text
        runs = self._runs(name)
        holder = self._holder(address)
        copies = registrar.genesis.meta.copies
        if holder is not None and holder.status not in (UNBONDING, REMOVED):
            others = self._others_active(address)
            reason = slices_must_stay(name, slices=int(holder.slices_left), others_active=others, copies=copies)
            if reason is not None:
                self._unforced(name, reason)
        if runs:
            self.runtime.mark(name, FLAG, on=True)
        phrase = registrar.leave(name, "resource")
        if holder is None or self.settings.force:
            return phrase
        if not runs:
            return f"{phrase}; it did not run, so its slices are copied from their other holders"
        holder = self._migrated(name, address, copies=copies)
        note = self._cooling_off(name, address, holder, registrar)
        self.runtime.mark(name, FLAG, on=False)  # its home may come back one day
        return f"{phrase}; every slice has its copies elsewhere{note}"

    def _migrated(self, name: str, address: str, *, copies: int) -> HolderView:
        """Wait until the meta layer has moved every slice."""
        while True:
            holder = self._holder(address)
            if holder is not None and holder.status in (UNBONDING, REMOVED) and holder.slices_left == "0":
                return holder
            left = f"{holder.slices_left} slices" if holder is not None and holder.status == UNBONDING else "all slices"
            others = self._others_active(address)
            short = f" ({others} other resource nodes are active, for {copies} copies)" if others < copies else ""
            self._wait(name, f"still has {left} to hand over{short}", f"draining {name}: {left} left{short}")

    def _cooling_off(self, name: str, address: str, holder: HolderView, registrar: Registrar) -> str:
        """What leaving now costs, as the end of a sentence; waits for it to cost nothing when that is wanted."""
        while not holder.left and int(holder.cooling_off_ms) > 0:
            owner = self.ring.nodes[name].owner_key().text
            immature = int(registrar.api.get(f"/stratos/pot/v1/rewards/wallet/{owner}")["immature"])
            left = f"{int(holder.cooling_off_ms) / 1000:.0f} s"
            if not self.settings.wait_cooling_off:
                if not immature:
                    return ""
                return (
                    f"; it went {left} before its cooling-off ends and forfeits {_stos(immature)} STOS of immature rewards "
                    "(`up --wait-cooling-off` would have kept it running until then)"
                )
            self._wait(
                name,
                f"has handed over its slices and would forfeit {_stos(immature)} STOS before its cooling-off ends in {left}",
                f"draining {name}: {left} of its cooling-off left",
            )
            holder = self._holder(address) or holder
        while self.settings.wait_cooling_off and not holder.left:
            self._wait(name, "has stayed for its cooling-off, which is not settled yet", f"draining {name}: settling")
            holder = self._holder(address) or holder
        return ""

    def _holder(self, address: str) -> HolderView | None:
        return (read_holders(meta_addresses(self.plan), held=address) or {}).get(address)

    def _others_active(self, address: str) -> int:
        found = read_holders(meta_addresses(self.plan)) or {}
        return sum(one.status == ACTIVE and one.node != address for one in found.values())

    # -- the two layers that vote

    def _meta(self, name: str, config: NodeConfig, registrar: Registrar) -> str:
        address = self.ring.nodes[name].node_key().text
        found = registrar.api.registered_node(address, "meta")
        if found is not None and found.active:
            others = [
                one.node
                for one in registrar.api.registered()
                if one.role == "meta" and one.active and one.node != address
            ]
            self._unless_needed(
                name, lambda: meta_must_stay(name, others=len(others), others_up=len(self._up("meta", others)))
            )
        phrase = registrar.leave(name, "meta")
        self._until_not_voting(name, config)
        return phrase

    def _validator(self, name: str, config: NodeConfig, registrar: Registrar) -> str:
        address = self.ring.nodes[name].node_key().text
        stake = registrar.own_stake(name)
        if stake:
            stakes = {
                one.node: one.stake_wei
                for one in registrar.api.registered()
                if one.role == "validator" and one.active and one.node != address
            }
            self._unless_needed(
                name, lambda: validator_must_stay(name, stakes=stakes, up=self._up("validator", list(stakes)))
            )
        phrase = registrar.leave(name, "validator")
        found = registrar.api.registered_node(address, "validator")
        if found is not None and found.active and not registrar.own_stake(name):
            return self._unforced(
                name, f"others have staked {_stos(found.stake_wei)} STOS with it and it votes for them"
            )
        self._until_not_voting(name, config)
        return phrase

    def _unless_needed(self, name: str, reason: Callable[[], str | None]) -> None:
        """Refuse while the layer needs the node; newcomers get a moment to take over."""
        patience = time.monotonic() + min(SETTLE_SECONDS, self.settings.seconds)
        while (sentence := reason()) is not None:
            if time.monotonic() > patience:
                raise StillThere(f"{name} goes on running: {sentence}")
            self.say(f"{name} is still needed: {sentence}")
            time.sleep(LOOK_SECONDS)

    def _up(self, role: str, addresses: list[str]) -> frozenset[str]:
        """Those of these nodes that take part: ours when they say so, those of others are taken at their register's word."""
        ours = [node for node in self.plan.nodes if node.role == role and node.node in addresses]
        answers = all_statuses(ours)
        silent = {node.node for node in ours if not (answers[node.name] or {}).get("voting")}
        return frozenset(addresses) - silent

    def _until_not_voting(self, name: str, config: NodeConfig) -> None:
        if self.settings.force or not self._runs(name):
            return
        while (status := base_status(http_url(config))) is not None and status.get("voting"):
            self._wait(name, "still votes", f"draining {name}: it votes until the set without it takes over")

    def _runs(self, name: str) -> bool:
        state = self.runtime.status().get(name)
        return state is not None and state.pid != 0

    def _wait(self, name: str, still: str, progress: str) -> None:
        left = self._deadline - time.monotonic()
        if left < 0:
            raise StillThere(
                f"{name} {still} after {self.settings.seconds:g} s and goes on running; run `up` again to go on waiting, "
                "or `up --force` to stop it"
            )
        self.say(f"{progress}, at most {left:.0f} s more")
        time.sleep(min(LOOK_SECONDS, max(0.01, left)))


def drain(names: tuple[str, ...], draining: Draining) -> tuple[dict[str, str], dict[str, str]]:
    """Take these nodes out: (sentences about those that are gone, sentences about those that go on running), by name."""
    gone: dict[str, str] = {}
    still: dict[str, str] = {}
    for name in names:
        try:
            gone[name] = draining.remove(name)
        except StillThere as error:
            still[name] = str(error)
    return gone, still


def _stos(wei: int) -> str:
    whole, rest = divmod(wei, 10**18)
    return f"{whole}.{rest:018d}"[: len(str(whole)) + 4]
