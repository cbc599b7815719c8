"""The worlds that can be simulated, by name.

`bft` is the core with a key-value machine, `value` the whole value layer, `upgrade` the same while it votes for new rules and some
nodes lack them, `full` both layers with the bridge between them.
"""

from collections.abc import Callable

from stratos.sim.bft_world import run_bft
from stratos.sim.full_world import run_full
from stratos.sim.judging import Outcome, Parts, Tracer
from stratos.sim.scenario import Scenario
from stratos.sim.upgrade_world import run_upgrade
from stratos.sim.value_world import run_value

DEFAULT_WORLD = "full"
WORLDS: dict[str, Callable[[Scenario, Parts, Tracer], Outcome]] = {
    "bft": run_bft,
    "value": run_value,
    "upgrade": run_upgrade,
    "full": run_full,
}
