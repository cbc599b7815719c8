"""In which order running nodes are replaced, and how many at once, so that no layer stops and no slice is out of reach.

Pure: who runs what, and how much voting power each validator has, is given. Rules, one function each:

- validators: a batch has at most (n - 1) // 3 of them and less than a third of all voting power, outside validators
  counted; where no such batch exists (fewer than four, or one holds a third), replacing halts the chain for a moment,
  which must be allowed;
- meta nodes: one by one;
- who does not take part already (`away`) is missed as much as who is being replaced, and is itself missed no more when it
  is replaced: with one of four away, replacing another one halts its layer;
- resource nodes: region by region, and of a region never so many at once that a slice with all its copies there would
  be out of reach, or that an upload would lack holders.

Validators first: rules of the ledger are known to the value layer before anybody else asks about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from orchestrator.errors import BadInput
from stratos.bft.quorum import quorum


class Rollable(Struct, frozen=True, kw_only=True):
    """A node that will be replaced. `power_wei` is a validator's voting power; `away`: it does not take part now."""

    name: str
    role: str
    region: str = ""
    power_wei: int = 0
    away: bool = False


class Batch(Struct, frozen=True, kw_only=True):
    """Nodes that are replaced at the same time. `halts`: their layer stops until they are back."""

    role: str
    names: tuple[str, ...]
    region: str = ""
    halts: bool = False


def batches(
    nodes: Sequence[Rollable],
    *,
    total_power_wei: int,
    validators: int,
    meta_nodes: int,
    holders: int,
    copies: int,
    allow_halt: bool,
    away_power_wei: int = 0,
    away_meta: int = 0,
) -> tuple[Batch, ...]:
    """The batches for `nodes`; the counts are of the whole network, `away_...` those of who does not take part in it now,
    to be replaced or not. Raises BadInput when the chain would halt unasked."""
    of = {role: [node for node in nodes if node.role == role] for role in ("validator", "meta", "resource")}
    return (
        *validator_batches(
            of["validator"], total_wei=total_power_wei, count=validators, away_wei=away_power_wei, allow_halt=allow_halt
        ),
        *meta_batches(of["meta"], count=meta_nodes, away=away_meta, allow_halt=allow_halt),
        *resource_batches(of["resource"], holders=holders, copies=copies),
    )


def validator_batches(
    nodes: Iterable[Rollable], *, total_wei: int, count: int, allow_halt: bool, away_wei: int = 0
) -> tuple[Batch, ...]:
    """First those that are away, each alone, because they come back; then greedy by power, strongest first."""
    most = max(1, (count - 1) // 3)
    waiting = sorted(nodes, key=lambda one: (-one.power_wei, one.name))
    returning = [node for node in waiting if node.away]
    missing = max(0, away_wei - sum(node.power_wei for node in returning))
    open_batches: list[tuple[list[str], int]] = []
    halting: list[Batch] = []
    for node in waiting:
        if node.away:
            continue
        if 3 * (missing + node.power_wei) >= total_wei:
            if not allow_halt:
                share = 100 * node.power_wei // max(1, total_wei)
                others = f", {100 * missing // max(1, total_wei)} % is away already" if missing else ""
                raise BadInput(
                    f"replacing validator {node.name} halts the chain until it is back: it has "
                    f"{share} % of the voting power{others} and a third must never be away; "
                    f"{'bring the others back' if missing else 'add validators'}, or allow it with --allow-halt"
                )
            halting.append(Batch(role="validator", names=(node.name,), halts=True))
            continue
        for place, (names, power) in enumerate(open_batches):
            if len(names) < most and 3 * (missing + power + node.power_wei) < total_wei:
                open_batches[place] = ([*names, node.name], power + node.power_wei)
                break
        else:
            open_batches.append(([node.name], node.power_wei))
    return (
        *(Batch(role="validator", names=(node.name,)) for node in returning),
        *halting,
        *(Batch(role="validator", names=tuple(names)) for names, _ in open_batches),
    )


def meta_batches(nodes: Iterable[Rollable], *, count: int, allow_halt: bool, away: int = 0) -> tuple[Batch, ...]:
    """One by one, those that are away first; where the others are no quorum, each replacement stops the layer for a moment."""
    waiting = sorted(nodes, key=lambda node: not node.away)
    missing = max(0, away - sum(node.away for node in waiting))
    halts = count - missing - 1 < quorum(count)
    listed = [Batch(role="meta", names=(node.name,), halts=halts and not node.away) for node in waiting]
    stopping = next((batch.names[0] for batch in listed if batch.halts), None)
    if stopping is not None and not allow_halt:
        others = f", and {missing} are away already; bring them back" if missing else "; add meta nodes"
        raise BadInput(
            f"replacing {stopping} halts the meta layer until it is back: {count} authorities cannot do without "
            f"one{others}, or allow it with --allow-halt"
        )
    return tuple(listed)


def resource_batches(nodes: Iterable[Rollable], *, holders: int, copies: int) -> tuple[Batch, ...]:
    """Region by region, at most `copies - 1` at once and as many as uploads can spare, at least one."""
    most = max(1, min(copies - 1, holders - copies))
    by_region: dict[str, list[str]] = {}
    for node in nodes:
        by_region.setdefault(node.region, []).append(node.name)
    return tuple(
        Batch(role="resource", names=tuple(names[start : start + most]), region=region)
        for region, names in sorted(by_region.items())
        for start in range(0, len(names), most)
    )


def voting_power(plan_stakes: Mapping[str, int], chain_tokens: Mapping[str, int]) -> Mapping[str, int]:
    """Power by node address: what the chain says, and the planned stake of validators it does not know yet."""
    return {**plan_stakes, **chain_tokens}
