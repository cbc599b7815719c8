"""`collect`: everything somebody needs who was not there, in one archive, and no secret in it.

    collection.json                 what is in here, from when, what could not be had and why
    plan.json genesis.json endpoints.json journal.jsonl status.json
    nodes/<node>/                   config.json, log.jsonl, metrics.txt, status.json
    machines/<machine>.txt          versions, disks, memory, units and containers

Only named files are taken: never a folder as it is, so that a key file cannot slip in. Each piece passes the redactor before it
reaches the archive, which is written beside its name and renamed when whole. A node or machine that does not answer is a line in the
collection; the rest is collected.
"""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec import Struct

import orchestrator
from orchestrator.errors import EnvironmentFault, StratosctlError
from orchestrator.node_status import request
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.redaction import Redactor
from orchestrator.testnet.survey import survey
from orchestrator.topology.topology import MACHINES
from stratos.wire.config import dump_config

AT_ONCE = 16
HTTP_SECONDS = 5.0
MACHINE_SECONDS = 30.0
LONGEST_LOG_BYTES = 64 << 20
ABOUT_MACHINE = """uname -a; cat /etc/os-release; date -u +%FT%TZ; uptime; nproc; free -b; df -B1 -x tmpfs
python3 --version; docker version 2>/dev/null; docker ps -a --no-trunc --filter label=network.stratos.testnet 2>/dev/null
docker images --digests 2>/dev/null
systemctl --no-pager --failed 2>/dev/null; systemctl --no-pager list-units 'stratos*' 2>/dev/null
cat /etc/stratos/*/manifest.json 2>/dev/null; ss -ltn 2>/dev/null; nft list tables 2>/dev/null; timedatectl 2>/dev/null; true"""


class Collection(Struct, frozen=True, kw_only=True):
    """What was collected. `problems`: node or machine -> why something of it is missing; `redacted`: secrets taken out."""

    testnet: str
    runtime: str
    time: str
    stratosctl: str
    python: str
    controller: str
    since_seconds: float
    nodes: tuple[str, ...]
    machines: tuple[str, ...]
    problems: dict[str, str] = {}
    redacted: int = 0
    file: str = ""
    bytes: int = 0
    files: int = 0


def collect(
    folder: TestnetFolder,
    target: Path,
    *,
    nodes: Sequence[NodePlan],
    since: float = 0.0,
    say: Callable[[str], None] = lambda _text: None,
) -> Collection:
    """Write the archive `target` (.tar.gz); raises EnvironmentFault when it cannot be written, BadInput without a testnet."""
    plan = folder.need_plan()
    redactor = Redactor(folder.ring())
    runtime = runtime_for(plan, folder.path, code="")
    problems: dict[str, str] = {}
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    files = 0
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as archive:
            for name, content in _pieces(folder, plan, runtime, nodes, since, problems, say):
                _add(archive, f"{plan.name}/{name}", redactor.clean(content))
                files += 1
            done = Collection(
                testnet=plan.name,
                runtime=plan.runtime,
                time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                stratosctl=orchestrator.__version__,
                python=platform.python_version(),
                controller=platform.platform(),
                since_seconds=since,
                nodes=tuple(node.name for node in nodes),
                machines=tuple(machine.name for machine in plan.machines) if plan.runtime == MACHINES else (),
                problems={key: redactor.clean(text.encode()).decode() for key, text in problems.items()},
                redacted=redactor.count,
            )
            _add(archive, f"{plan.name}/collection.json", _document(done))
        os.replace(temporary, target)
    except OSError as error:
        raise EnvironmentFault(f"{target} cannot be written ({error.strerror}); name another file with -o") from error
    finally:
        temporary.unlink(missing_ok=True)
        runtime.close()
    return msgspec.structs.replace(done, file=str(target), bytes=target.stat().st_size, files=files + 1)


def _pieces(
    folder: TestnetFolder,
    plan: Plan,
    runtime: Runtime,
    nodes: Sequence[NodePlan],
    since: float,
    problems: dict[str, str],
    say: Callable[[str], None],
) -> Iterator[tuple[str, bytes]]:
    """(name in the archive, content) of everything, one at a time."""
    for path in (folder.plan_file, folder.genesis_file, folder.endpoints_file, folder.journal_file):
        if path.is_file():
            yield path.name, path.read_bytes()
    say("asking the nodes")
    try:
        yield "status.json", _document(survey(folder))
    except StratosctlError as error:
        problems["status"] = str(error)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for node, found in zip(nodes, pool.map(lambda one: _of_node(runtime, one, since), nodes), strict=True):
            say(f"collecting {node.name}")
            for name, content in found.items():
                if isinstance(content, bytes):
                    yield f"nodes/{node.name}/{name}", content
                else:
                    problems[node.name] = content
    say("asking the machines")
    for machine, text in _machines(plan, problems).items():
        yield f"machines/{machine}.txt", text


def _of_node(runtime: Runtime, node: NodePlan, since: float) -> dict[str, bytes | str]:
    """File -> content, or why it is missing."""
    found: dict[str, bytes | str] = {"config.json": dump_config(node.config)}
    try:
        found["log.jsonl"] = runtime.read_log(node.name, since=since)[-LONGEST_LOG_BYTES:]
    except StratosctlError as error:
        found["log.jsonl"] = str(error)
    for name, path, address in (
        ("metrics.txt", "/metrics", node.metrics_address),
        ("status.json", "/status", node.http_address),
    ):
        answer = request(*address, path, timeout_seconds=HTTP_SECONDS)
        if answer is not None and answer.status == 200:
            found[name] = answer.body
        else:
            found[name] = f"{node.name} does not answer GET {path}; is it up?"
    return found


def _machines(plan: Plan, problems: dict[str, str]) -> Mapping[str, bytes]:
    """Machine -> what it says of itself; the controller for processes and containers."""
    if plan.runtime != MACHINES:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", ABOUT_MACHINE], capture_output=True, timeout=MACHINE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            problems["localhost"] = (
                f"this machine did not tell about itself in {MACHINE_SECONDS:g} s; is its engine well?"
            )
            return {}
        return {"localhost": done.stdout}
    from orchestrator.fleet.connections import Result, run_all  # SSH only where there are machines

    outcomes = run_all(plan.machines, ABOUT_MACHINE, timeout=MACHINE_SECONDS, sudo=True)
    found = {}
    for name, outcome in outcomes.items():
        if isinstance(outcome, Result):
            found[name] = outcome.stdout
        else:
            problems[name] = outcome.sentence
    return found


def _document(record: Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o600
    member.mtime = int(time.time())
    archive.addfile(member, io.BytesIO(content))
