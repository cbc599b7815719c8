"""Controller's half of `stratos_probe`: runs the probe on the machine, measures what takes two, judges, and fails the host.

The probe, the measuring and the judging are those of `stratosctl preflight` (orchestrator/preflight); only the way to the machine is Ansible's
own, so every connection, become method and vault that a playbook can use works here too. Nothing is changed: the probe's file leaves with the task's
temporary folder, and the holder of the ports ends when it is told to, or by itself.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_CHECKOUT = Path(__file__).resolve().parents[2]
for _folder in (_CHECKOUT, _CHECKOUT / "node_image"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

CLOCK_SAMPLES = 5
HOLD_SECONDS = 30
_PROXIES = ("proxyjump", "proxycommand", "-j")


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Lines of the judgement; failed when the policy is enforce and one of them is."""
        super().run(tmp, task_vars)
        from orchestrator.fleet.failures import sudo_failure
        from orchestrator.preflight.judge import FAIL, Setting, judge, worst
        from orchestrator.preflight.measurements import Findings, read_measured

        variables, arguments = task_vars or {}, self._task.args
        host = str(variables["inventory_hostname"])
        duties = self._duties(arguments, variables)
        token = secrets.token_hex(16)
        asked = {
            "folder": arguments.get("folder", "/var/lib/stratos"),
            "quick": bool(arguments.get("quick")),
            "testnet": arguments.get("testnet", ""),
            "token": token,
            "ports": sorted({port for duty in duties for port in duty.ports} | ({0} if duties else set())),
            "hold_seconds": HOLD_SECONDS,
        }
        result = self._execute_module(module_name="stratos_probe", module_args=asked, task_vars=variables)
        if result.get("failed") or "measured" not in result:
            said = f"{result.get('msg', '')} {result.get('module_stderr', '')}".replace(
                "Missing sudo password", "a password is required"
            )
            refused = sudo_failure(host, self._login(), said)
            text = (
                refused.sentence
                if refused
                else f"{host}: the probe could not run ({said.strip()[:150]}); run python3 there by hand"
            )
            raise AnsibleActionFail(text)
        fields = result["measured"]
        address = str(variables.get("stratos_address") or variables.get("ansible_host") or host)
        up, down, why, ports = self._network(address, fields, duties, arguments, token)
        notes = {"bandwidth up": why, "bandwidth down": why} if why else {}
        if self._task.check_mode:
            notes["disk write"] = "nothing is written in check mode"
        findings = Findings(
            measured=read_measured(fields),
            clock=self._clock(),
            up=up,
            down=down,
            ports=ports,
            address=address,
            dialled=_dialled(address),
            notes=notes,
        )
        setting = Setting(
            factor=float(arguments.get("factor", 1.0)),
            machines=int(arguments.get("machines", 1)),
            becomes=bool(self._play_context.become),
        )
        lines = judge(host, findings, duties, setting)
        failed = [line.sentence for line in lines if line.verdict == FAIL]
        answer: dict[str, Any] = {
            "changed": False,
            "verdict": worst(lines),
            "lines": [{name: getattr(line, name) for name in line.__struct_fields__} for line in lines],
        }
        if failed and arguments.get("policy", "enforce") == "enforce":
            answer.update(failed=True, msg=". ".join(failed))
        elif failed:
            answer["warnings"] = failed
        return answer

    def _login(self) -> str:
        return str(self._play_context.remote_user or "the login user")

    def _duties(self, arguments: dict[str, Any], variables: dict[str, Any]) -> tuple[Any, ...]:
        """The nodes of the machine's bundle; none when it has no bundle, as machines without nodes do."""
        from orchestrator.preflight.requirements import Duty
        from orchestrator.topology.variables import VARIABLES

        path = Path(str(arguments.get("bundle", "")))
        if not path.is_file():
            return ()
        try:
            with tarfile.open(path) as tar:
                member = tar.extractfile("manifest.json")
                nodes = json.loads(member.read())["nodes"] if member is not None else []
        except (OSError, KeyError, ValueError, tarfile.TarError) as error:
            raise AnsibleActionFail(f"{path} is no bundle ({error}); render it with `stratosctl bundle`") from None
        duties = []
        for node in nodes:
            own = variables["hostvars"].get(node["name"], {})
            resource = node["role"] == "resource"
            disk = VARIABLES["stratos_disk"]
            offered = disk.kind.parse(own.get("stratos_disk", disk.default)) if resource else 0
            duties.append(
                Duty(
                    name=node["name"],
                    role=node["role"],
                    tier=int(own.get("stratos_tier", 1)) if resource else 0,
                    offered_bytes=int(offered or 0),
                    ports=tuple(sorted({int(port) for port in node["ports"].values()} - {0})),
                )
            )
        return tuple(duties)

    def _clock(self) -> Any:
        """The offset from round trips of `date` over Ansible's own connection."""
        from orchestrator.preflight.clock import Sample, estimate

        samples = []
        for _ in range(CLOCK_SAMPLES):
            sent = time.time()
            answer = self._low_level_execute_command("date +%s.%N", sudoable=False)
            received = time.time()
            try:
                samples.append(Sample(sent, float(answer["stdout"].strip().splitlines()[-1]), received))
            except (ValueError, IndexError):
                continue
        return estimate(samples)

    def _network(
        self, address: str, fields: dict[str, Any], duties: tuple[Any, ...], arguments: dict[str, Any], token: str
    ) -> tuple[Any, Any, str, tuple[Any, ...]]:
        """(up, down, why not, ports): what the controller sees of the machine while the probe holds its ports."""
        from orchestrator.preflight import bandwidth, probe
        from orchestrator.preflight.measurements import Port
        from orchestrator.preflight.requirements import needs_of_machine

        ports: list[Port] = []
        opened, through = 0, [int(port) for port in fields.get("bound", [])]
        ours = set(fields.get("ours", ()))
        hidden = any(mark in str(self._connection_arguments()).lower() for mark in _PROXIES)
        for number, node in sorted({port: duty.name for duty in duties for port in duty.ports}.items()):
            if number not in through:
                by = str(fields.get("taken", {}).get(str(number), ""))[:100]
                ports.append(Port(number=number, node=node, state="ours" if node in ours else "taken", by=by))
                continue
            try:
                probe.knock(address, number, token)
            except (OSError, ValueError) as error:
                problem = str(getattr(error, "strerror", None) or error)[:80]
                state = "unknown" if hidden else "closed"
                ports.append(Port(number=number, node=node, state=state, seen_from="the controller", problem=problem))
            else:
                ports.append(Port(number=number, node=node, state="open", seen_from="the controller"))
                opened = opened or number
        needs = needs_of_machine(duties, float(arguments.get("factor", 1.0)))
        seconds = bandwidth.SECONDS_QUICK if arguments.get("quick") else bandwidth.SECONDS
        pace = bandwidth.Pace(up_mbit=needs.up_mbit, down_mbit=needs.down_mbit, seconds=seconds)
        extra = next((port for port in through if port not in {one.number for one in ports}), 0)
        place = bandwidth.Place(address=address, port=opened or extra, token=token)
        up, down, why = bandwidth.measure(None, place, pace) if duties else (None, None, "")
        if place.port:
            try:
                probe.knock(address, place.port, token, op="bye")
            except (OSError, ValueError):
                pass  # it ends by itself
        return up, down, why, tuple(ports)

    def _connection_arguments(self) -> str:
        return " ".join(
            str(self._connection.get_option(name) or "")
            for name in ("ssh_common_args", "ssh_extra_args")
            if self._connection.transport == "ssh"
        )


def _dialled(address: str) -> str:
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""
