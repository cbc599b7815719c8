"""Settings that every test shares: hypothesis without deadlines, and repeatable in CI.

Deadlines measure the machine, not the code. In CI the examples are derived from the test itself, so that a red run can be run
again; at a developer's desk they differ from run to run, which is how new failures are found.
"""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

_NEVER_TIMED = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("desk", deadline=None, suppress_health_check=_NEVER_TIMED)
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, database=None, suppress_health_check=_NEVER_TIMED
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "desk")

# Libraries that call Ansible's programs (testinfra, molecule) look for them on the PATH; ours are beside this Python.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
