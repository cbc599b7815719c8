"""Runs on a machine, as root, from standard input: one of our Ansible modules without Ansible, and then a probe.

`direct.py` sends this program's text, the modules' and what they are given as one JSON document, so nothing of it is ever written to the
machine's disk. The first line of the answer is the module's result ({"failed": sentence} when it could not), what follows is the probe's.
Standard library of Python 3.9 and later only. `parcel` is the document, put there by whoever runs this text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from typing import Any


def run_command(arguments: list[str], **_options: Any) -> tuple[int, str, str]:
    """As AnsibleModule's: (exit code, output, errors) in the C locale; FileNotFoundError when there is no such program."""
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


def install(name: str, source: str) -> types.ModuleType:
    """Make a module importable from its text; an empty one for each package above it."""
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules:
        install(parent, "").__path__ = []
    module = types.ModuleType(name)
    module.__file__ = name
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - the text came with this one
    return module


def main(parcel: dict[str, Any]) -> None:
    """Call the last module's `act`, print what came of it, then run the probe."""
    install("ansible.module_utils.basic", "AnsibleModule = None")
    for name, source in parcel["modules"]:
        module = install(name, source)
    try:
        result = module.act(parcel["params"], check=False, run_command=run_command)
    except Exception as error:  # noqa: BLE001 - whatever it was, the controller tells it with the machine's name
        result = {"failed": str(error) or type(error).__name__}
    print(json.dumps(result), flush=True)
    if parcel["probe"]:
        sys.argv = ["-", parcel["probe_argument"]]
        install("probe", parcel["probe"])


main(globals()["parcel"])
