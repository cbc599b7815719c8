"""Modules without Ansible: the program that carries them, and what is made of its answers."""

import json
import subprocess
import sys
from typing import Any

from orchestrator.fleet import direct
from orchestrator.fleet.connections import Result
from orchestrator.fleet.failures import Failure
from orchestrator.topology.machine import Machine

SHARED = "class Trouble(Exception):\n    pass\n"
MODULE = """
from ansible.module_utils.shared import Trouble
from ansible.module_utils.basic import AnsibleModule
def act(params, *, check, run_command):
    if params["refuse"]:
        raise Trouble("the disk is full")
    return {"said": run_command(["echo", params["word"]])[1], "check": check}
"""


def carried(**params: Any) -> direct.Placed:
    """What a module that says a word comes to, with a probe behind it."""
    parcel = {
        **direct._programs(),
        "modules": [("ansible.module_utils.shared", SHARED), ("module", MODULE)],
        "params": {"refuse": False, "word": "hello", **params},
        "probe": "import sys\nprint('probed', sys.argv[1])\n",
        "probe_argument": "it",
    }
    done = subprocess.run(
        [sys.executable, "-c", direct._BEGIN], input=json.dumps(parcel).encode(), capture_output=True, check=False
    )
    return direct.answer(result(done.stdout, done.stderr, done.returncode))


def result(stdout: bytes, stderr: bytes = b"", code: int = 0) -> Result:
    return Result(machine="m1", command="c", code=code, stdout=stdout, stderr=stderr, seconds=0.1)


def test_a_module_runs_without_ansible_and_the_probe_after_it() -> None:
    """Its imports are found in what was sent, and both answers come back."""
    placed = carried()
    assert placed.result == {"said": "hello\n", "check": False}
    assert placed.probed == b"probed it\n"


def test_a_module_that_refuses_says_why_and_the_probe_still_runs() -> None:
    """The machine's sentence names the machine, the reason and the fix."""
    placed = carried(refuse=True)
    machine = Machine(name="10.0.0.1", address="10.0.0.1", connection="ssh", hosts=("v1",), groups=("validators",))
    failure = direct._judged(machine, placed)
    assert isinstance(failure, Failure)
    assert failure.sentence == "v1: nodes could not be placed: the disk is full; mend that and run `up` again"
    assert placed.probed == b"probed it\n"


def test_an_answer_that_is_none_is_a_failure_with_the_machines_words() -> None:
    """A machine without python3 is not taken for one that did its work."""
    said = direct.answer(result(b"", b"python3: not found", 127))
    assert said.result == {"failed": "its answer could not be read (python3: not found)"}


def test_the_modules_that_are_sent_are_the_playbooks_own() -> None:
    """There is one implementation, and it has the entry that is called."""
    names = [name for name, _ in direct._programs()["modules"]]
    assert names == ["ansible.module_utils.stratos_files", "ansible.module_utils.stratos_system", "stratos_bundle"]
    assert "\ndef act(params, *, check, run_command):" in direct._programs()["modules"][-1][1]
