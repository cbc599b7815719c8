"""Standing of a holder: a number that starts at `score_start` (5,000), decides how often work comes, and can be explained.

| reason | change | when |
|---|---|---|
| on_time | +5, not above the start | a status report arrived in time |
| stored | +2 | a receipt for uploaded slices was ordered |
| served | +2 | a batch of download receipts was ordered |
| repaired | +5 | a receipt for repaired slices was ordered |
| unavailable | -500 | no status for `offline_intervals` intervals |
| undelivered | -100 | an upload completed without a copy this holder was assigned |
| repair_expired | -200 | a repair order was not carried out in time (not in maintenance) |
| dispute | -300 | fell silent in a step, by the other side's signed word |
| possession | -1,500 | a quorum of authorities found that a stored slice could not be proven |

The score is the weight in the placement lottery, so 2,500 gets half of the work of 5,000. Bounds are 0 and twice the
start. Below `score_floor` the meta layer suspends the node; `why` prints the last changes with their reasons.
"""

from msgspec import structs

from stratos.meta.context import BlockContext
from stratos.meta.rooms import HISTORY, HistoryItem, Holder
from stratos.state import Branch

CHANGES = {
    "on_time": 5,
    "stored": 2,
    "served": 2,
    "repaired": 5,
    "unavailable": -500,
    "undelivered": -100,
    "repair_expired": -200,
    "dispute": -300,
    "possession": -1_500,
}
KEPT_HISTORY = 64


def scored(branch: Branch, context: BlockContext, holder: Holder, reason: str) -> Holder:
    """`holder` after the change named by `reason`; writes the history, not the holder."""
    start = context.params.score_start
    ceiling = start if reason == "on_time" else 2 * start
    before = holder.score
    after = max(0, min(before + CHANGES[reason], max(ceiling, before)))
    if after == before:
        return holder
    history = HISTORY.get(branch, holder.address) or ()
    change = after - before
    if history and history[-1].reason == reason:
        history = (*history[:-1], HistoryItem(context.time_ms, reason, history[-1].delta + change))
    else:
        history = (*history[-(KEPT_HISTORY - 1) :], HistoryItem(context.time_ms, reason, change))
    HISTORY.set(branch, holder.address, history)
    return structs.replace(holder, score=after)
