"""From blocks to history: which accepted message or event changed what backs the market.

The chain tells what happened in events; the book keeps its own register of deposits (what is locked, what is effective,
what a suspension will restore) and turns each event into the steps the oracle walks. Amounts that the rules determine
are computed here, not read: what a suspension takes away, what lifting it gives back, what an admission makes effective; also
the block from which a voted version of the rules holds, which is the approved plan's own height.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.audit.evidence import SettledEpoch
from orchestrator.audit.history import (
    Bought,
    FoundationCredited,
    MetaJoined,
    MetaLeft,
    PoolCredited,
    Reported,
    RulesChanged,
    StakeAdded,
    StakeRemoved,
    Step,
)
from stratos.crypto.keys import node_address
from stratos.wire.block import Event
from stratos.wire.genesis import Genesis


class UnreadableHistoryError(ValueError):
    """An event of the chain that the book cannot follow; the sentence says which."""


@dataclass(slots=True)
class Entry:
    """One node in the book."""

    role: str
    wallet: bytes
    deposit_wei: int
    effective_wei: int = 0
    restored_wei: int = 0
    active: bool = False


class Book:
    """Follows the register from genesis on."""

    def __init__(self, genesis: Genesis) -> None:
        self.nodes: dict[bytes, Entry] = {}
        for node in genesis.meta_nodes:
            deposit = int(node.deposit_wei)
            self.nodes[node_address(node.node_public_key)] = Entry(
                "meta", node.beneficiary, deposit, deposit, active=True
            )
        for node in genesis.resource_nodes:
            self.nodes[node_address(node.node_public_key)] = Entry(
                "resource", node.beneficiary, int(node.deposit_wei), int(node.effective_wei)
            )
        self._genesis = genesis
        self._plan: tuple[int, int] | None = None
        """(height, rules version) that was approved and has not begun."""

    def opening(self) -> Iterator[Step]:
        """The prepays of the genesis file."""
        for prepay in self._genesis.prepays:
            yield Bought(0, prepay.beneficiary, int(prepay.amount_wei), None)

    def follow(
        self, height: int, events: Iterable[Event], reports: dict[int, tuple[SettledEpoch, frozenset[bytes]]]
    ) -> Iterator[Step]:
        """Steps of one block's events, in order; `reports` gives the rows and withheld nodes of each epoch included."""
        if self._plan is not None and self._plan[0] <= height:
            yield RulesChanged(*self._plan)
            self._plan = None
        listed = list(events)
        for position, event in enumerate(listed):
            told = dict(event.attributes)
            try:
                match event.kind:
                    case "left":
                        following = listed[position + 1] if position + 1 < len(listed) else None
                        credited = following is not None and following.kind == "repair_credited"
                        noz = int(dict(following.attributes)["noz"]) if following is not None and credited else None
                        yield from self._leave(height, told, noz)
                    case "ozone_bought":
                        yield Bought(height, bytes.fromhex(told["beneficiary"]), int(told["amount"]), int(told["noz"]))
                    case "report_included":
                        yield _reported(told, reports)
                    case "upgrade_approved":
                        self._plan = int(told["at_height"]), int(told["rules_version"])
                    case "upgrade_cancelled":
                        self._plan = None
                    case _:
                        yield from self._register(height, event.kind, told)
            except (KeyError, ValueError) as error:
                raise UnreadableHistoryError(
                    f"event {event.kind} at height {height} cannot be followed ({error}); is this the right genesis file?"
                ) from error

    def _register(self, height: int, kind: str, told: dict[str, str]) -> Iterator[Step]:
        if kind in ("resource_created", "meta_created"):
            role = kind.removesuffix("_created")
            self.nodes[bytes.fromhex(told["node"])] = Entry(
                role, bytes.fromhex(told["beneficiary"]), int(told["deposit"])
            )
            return
        if kind not in _REGISTER_KINDS:
            return
        address = bytes.fromhex(told["node"])
        node = self.nodes[address]
        match kind:
            case "deposit_added":
                node.deposit_wei += int(told["amount"])
                if node.active:
                    yield from self._set_effective(height, address, node.deposit_wei)
            case "effective_deposit":
                yield from self._set_effective(height, address, int(told["amount"]))
            case "suspended":
                node.restored_wei = node.effective_wei
                yield from self._set_effective(height, address, 0)
            case "unsuspended" if node.effective_wei == 0:
                yield from self._set_effective(height, address, min(node.restored_wei, node.deposit_wei))
            case "unbonding":
                yield from self._set_effective(height, address, 0)
                yield from self._deactivate(height, address)
            case "meta_admitted":
                node.active = True
                yield from self._set_effective(height, address, node.deposit_wei)
                yield MetaJoined(height, address, node.wallet)
            case "meta_removed":
                yield from self._deactivate(height, address)

    def _set_effective(self, height: int, address: bytes, amount_wei: int) -> Iterator[Step]:
        node = self.nodes[address]
        change = amount_wei - node.effective_wei
        node.effective_wei = amount_wei
        if change > 0:
            yield StakeAdded(height, address, change)
        elif change < 0:
            yield StakeRemoved(height, address, -change)

    def _deactivate(self, height: int, address: bytes) -> Iterator[Step]:
        if self.nodes[address].active:
            self.nodes[address].active = False
            yield MetaLeft(height, address)

    def _leave(self, height: int, told: dict[str, str], credited_noz: int | None) -> Iterator[Step]:
        address = bytes.fromhex(told["node"])
        node = self.nodes[address]
        node.deposit_wei -= int(told["from_deposit"])
        if node.effective_wei > node.deposit_wei:
            yield from self._set_effective(height, address, node.deposit_wei)
        paid = int(told["paid"])
        if credited_noz is not None:
            yield Bought(height, address, paid, credited_noz)
        elif paid:
            yield PoolCredited(height, paid)
        if int(told["forfeited_mining"]):
            yield FoundationCredited(height, int(told["forfeited_mining"]))
        if int(told["forfeited_traffic"]):
            yield PoolCredited(height, int(told["forfeited_traffic"]))


_REGISTER_KINDS = frozenset(
    {
        "deposit_added",
        "effective_deposit",
        "suspended",
        "unsuspended",
        "unbonding",
        "meta_admitted",
        "meta_removed",
    }
)


def _reported(told: dict[str, str], reports: dict[int, tuple[SettledEpoch, frozenset[bytes]]]) -> Reported:
    epoch, withheld = reports[int(told["epoch"])]
    return Reported(
        epoch,
        withheld,
        chain_mining_wei=int(told["mining_chain"]),
        chain_traffic_wei=int(told["traffic_chain"]),
        tax_wei=int(told["tax"]),
    )
