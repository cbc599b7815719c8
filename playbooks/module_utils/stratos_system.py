"""What the modules ask of a machine besides files: systemd, the container engine, users.

One small class, so that a test can stand in for the machine. Every call is one program with a list of arguments, and a
refusal is one sentence with the program's last words.
"""

from __future__ import annotations

import fcntl
import pwd
import time
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.stratos_files import PlacingError

USER = "stratos"
UID = 10001
LOCK = Path("/run/stratos.lock")
LOCK_SECONDS = 300.0
_SHOWN = ("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload")


@contextmanager
def alone(lock=LOCK):
    """Keep other modules of ours away from the machine: a run that was killed on the controller may still be at work."""
    with lock.open("a") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise PlacingError(
                        f"another run holds {lock} for {LOCK_SECONDS:.0f} s; let it end, then run again"
                    ) from None
                time.sleep(0.05)
        yield


class System:
    """`run_command` is AnsibleModule's or something that behaves like it: (arguments) -> (code, out, err)."""

    def __init__(self, run_command):
        self.run_command = run_command

    def run(self, arguments, **more):
        """Run a program that may fail; code 127 when there is none."""
        try:
            return self.run_command(arguments, handle_exceptions=False, **more)
        except FileNotFoundError:
            return 127, "", f"{arguments[0]} is not installed"

    def call(self, *arguments):
        """Run a program that must succeed; what it printed."""
        code, out, error = self.run(list(arguments))
        if code:
            said = (error or out).strip().splitlines()
            raise PlacingError(f"{' '.join(arguments[:3])} ended with {code}: {said[-1] if said else 'no word'}")
        return out

    def units(self, names):
        """What systemd knows of units, by name: ActiveState, SubState, UnitFileState, LoadState."""
        if not names:
            return {}
        out = self.call("systemctl", "show", "--property", ",".join(_SHOWN), *names)
        found = {}
        for block in out.strip().split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found[values.get("Id", "")] = values
        return {name: found.get(name, {}) for name in names}

    def systemctl(self, verb, names):
        """One verb for several units at once: systemd does them in parallel."""
        if names or verb == "daemon-reload":
            self.call("systemctl", verb, *names)

    def remove_container(self, name):
        """Remove a container that may not be there, on a machine that may have no engine."""
        self.run(["docker", "rm", "--force", name])

    def has_user(self):
        """Whether the nodes' user is there; raises PlacingError when its name or number is somebody else's."""
        try:
            by_name = pwd.getpwnam(USER)
        except KeyError:
            by_name = None
        try:
            by_number = pwd.getpwuid(UID)
        except KeyError:
            by_number = None
        for found in (by_name, by_number):
            if found is not None and (found.pw_name, found.pw_uid) != (USER, UID):
                raise PlacingError(
                    f"user {found.pw_name} has uid {found.pw_uid} here, and the nodes need user {USER} with uid {UID}; "
                    "rename or renumber that user"
                )
        return by_name is not None

    def make_user(self):
        """A user for the homes that nobody can log in as; its group has the same number."""
        code, _, _ = self.run(["getent", "group", USER])
        if code:
            self.call("groupadd", "--system", "--gid", str(UID), USER)
        self.call(
            "useradd", "--system", "--uid", str(UID), "--gid", str(UID), "--no-create-home", "--home-dir", "/var/lib/stratos",
            "--shell", "/usr/sbin/nologin", "--comment", "Stratos nodes", USER,
        )  # fmt: skip

    def remove_user(self):
        """Remove the user and its group."""
        self.call("userdel", USER)
        self.run(["groupdel", USER])  # userdel has taken it along unless the machine is set up otherwise
