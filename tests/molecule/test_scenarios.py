"""Every molecule scenario from nothing to nothing: create, prepare, converge, idempotence, verify, destroy.

A scenario is run as a person runs it, by the molecule command, within a deadline; its tail is what one sees of a failure.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
IN_CI = ("role_engine",)
"""The whole sequence on a real machine, as cheap as it gets; the others run with `test --all`."""
DEADLINE_SECONDS = 1500
TAIL_LINES = 120
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.molecule, pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def engine() -> None:
    """An engine on which machines can be made, or a printed reason."""
    import docker
    from docker.errors import DockerException

    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers, so there are no machines: {error}")


def molecule(action: str, scenario: str, environment: dict[str, str], log: Path) -> int | None:
    """Exit code of one molecule command, or None when its deadline passed; output goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(BIN / "molecule"), action, "-s", scenario],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            return None


@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[pytest.mark.ci] if name in IN_CI else []) for name in SCENARIOS]
)
def test_scenario(scenario: str, engine: None, tmp_path: Path) -> None:
    """The scenario's whole sequence succeeds, and its second converge changes nothing."""
    log = tmp_path / "molecule.log"
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        "NO_COLOR": "1",
        "MOLECULE_COMMAND_BORDERS": "false",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path / "molecule"),
        "STRATOS_LAB_PREFIX": f"mol{os.getpid()}",
    }
    code = molecule("test", scenario, environment, log)
    if code != 0:
        said = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        molecule("destroy", scenario, environment, log)
        why = f"not done within {DEADLINE_SECONDS} s" if code is None else f"exit code {code}"
        pytest.fail(f"molecule test -s {scenario}: {why}\n" + "\n".join(said), pytrace=False)
