"""`stratosctl test`: the tests of this checkout, in this checkout's environment.

On first use the development lock (a superset of the runtime lock) is installed beside what is there. By default the tests that need
nothing but this machine's processes run; groups that need more are marked and run with --all. Everything after the known
options goes to pytest as it is.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from orchestrator import bootstrap
from orchestrator.cli import exit_codes
from orchestrator.cli.parsing import parser
from orchestrator.errors import EnvironmentFault

NOT_BY_DEFAULT = ("docker", "molecule", "slow", "net")
_ROOT = Path(__file__).resolve().parents[2]
_MOST_WORKERS = 4

_EXAMPLES = """\
  stratosctl test                           what every change must pass
  stratosctl test --all                     with the docker, molecule, slow and net groups
  stratosctl test --ci                      of those groups, the few that every change must pass too
  stratosctl test tests/unit -k bech32 -x   arguments of pytest
"""


def main(argv: list[str]) -> int:
    """Install what testing needs, then become pytest."""
    options_of = parser("test", "Run the tests of this checkout with pytest.", examples=_EXAMPLES)
    options_of.add_argument("--all", action="store_true", help=f"run the groups {', '.join(NOT_BY_DEFAULT)} too")
    options_of.add_argument(
        "--ci", action="store_true", help="of those groups, only what every change must pass too (marker ci)"
    )
    options_of.add_argument("--setup-only", action="store_true", help="install the test and lint packages and stop")
    options, passed_on = options_of.parse_known_args(argv)
    if not bootstrap.development_is_ready(_ROOT):
        try:
            bootstrap.prepare(_ROOT, development=True)
        except bootstrap.SetupError as error:
            raise EnvironmentFault(str(error)) from error
    if options.setup_only:
        return exit_codes.OK
    if options.ci:
        return _become_pytest(["-m", "ci", "-n", "0", *passed_on])  # one after the other: each wants the whole machine
    arguments = pytest_arguments(passed_on, everything=options.all)
    return _become_pytest(arguments)


def _become_pytest(arguments: list[str]) -> NoReturn:
    os.chdir(_ROOT)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "pytest", *arguments])


def pytest_arguments(passed_on: list[str], *, everything: bool) -> list[str]:
    """Arguments for pytest: the default selection and the number of workers, unless the caller chose."""
    arguments: list[str] = []
    if not everything and not any(argument.startswith("-m") for argument in passed_on):
        arguments += ["-m", " and ".join(f"not {marker}" for marker in NOT_BY_DEFAULT)]
    if not any(argument.startswith(("-n", "--numprocesses", "--pdb")) for argument in passed_on):
        arguments += ["-n", str(min(os.cpu_count() or 1, _MOST_WORKERS)), "--dist", "worksteal"]
    return arguments + passed_on
