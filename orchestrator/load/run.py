"""One run of traffic against a testnet: from all its load hosts, or from this machine where nodes are processes or containers.

For load hosts everything they need is put into a folder of the run (public files, the paying wallet, one settings file each) and
`playbooks/load.yml` does the rest; here the same settings go to a Locust process of our own. Results lie in `runs/<id>/<host>/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orchestrator
from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.load.merge import RESULT, LoadResult, merge
from orchestrator.load.options import FOLDER, STOP_SECONDS, LoadOptions, locust_config
from orchestrator.plan.plan import Plan
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.topology.machine import Machine

CHECKOUT = Path(orchestrator.__file__).resolve().parent.parent
START_SECONDS = 90
Say = Callable[[str], None]


def run_load(folder: TestnetFolder, options: LoadOptions, *, say: Say) -> LoadResult:
    """Run to the end; raises BadInput, or EnvironmentFault when no host could even begin."""
    options.check()
    plan = folder.need_plan()
    if not (folder.wallets / f"{options.wallet}.json").is_file():
        raise BadInput(f"testnet {folder.name} has no wallet {options.wallet}; see `stratosctl wallet list`")
    run = folder.runs / time.strftime("load-%Y%m%d-%H%M%S", time.gmtime())
    run.mkdir(mode=0o700, parents=True)
    machines = [machine for machine in plan.machines if "load" in machine.groups]
    if plan.machines and not machines:
        raise BadInput(f"{plan.source} has no load host; add one to group load and run `stratosctl up`")
    return (
        _from_hosts(folder, plan, machines, options, run, say=say)
        if machines
        else _from_here(folder, options, run, say)
    )


def _from_here(folder: TestnetFolder, options: LoadOptions, run: Path, say: Say) -> LoadResult:
    own = run / "here"
    own.mkdir()
    settings = own / "locust.conf"
    settings.write_text(locust_config(options, host="here", testnet=str(folder.path), results=str(own / RESULT)))
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(CHECKOUT / "loadtests" / "mixed.py"),
        "--config",
        str(settings),
    ]
    say(f"traffic from here for {options.seconds} s")
    with (own / "locust.log").open("wb") as log:
        limit = options.seconds + START_SECONDS + STOP_SECONDS
        try:
            subprocess.run(
                command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentFault(f"the load generator did not end in {limit} s; see {own / 'locust.log'}") from error
    return _judged(merge({"here": own}), run)


def _from_hosts(
    folder: TestnetFolder, plan: Plan, machines: list[Machine], options: LoadOptions, run: Path, *, say: Say
) -> LoadResult:
    from orchestrator.fleet.playbook import run_playbook
    from orchestrator.image.carry import save_image
    from orchestrator.image.engine import engine
    from orchestrator.image.load_image import build_load_image
    from orchestrator.image.names import DIGEST_LABEL
    from orchestrator.topology.inventory import CACHE_FOLDER

    hosts = {host: machine for machine in machines for host in machine.hosts[:1]}
    files = run / "files"
    _write_files(folder, files, options, hosts)
    client = engine()
    name = build_load_image(client, node_image=plan.nodes[0].image, say=say)
    digest = client.images.get(name).labels[DIGEST_LABEL]
    archive = folder.path.parent / CACHE_FOLDER / "images" / f"{name.replace(':', '_')}-{digest[:16]}.tar"
    if not archive.exists():
        archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_image(client, name, archive, say=say)
    say(f"traffic from {len(hosts)} hosts for {options.seconds} s")
    try:
        done = run_playbook(
            "load.yml",
            inventory=Path(plan.source),
            work=run / "ansible",
            extra={
                "stratos_testnet": plan.name,
                "stratos_load_state": "run",
                "stratos_load_image": name,
                "stratos_load_image_digest": digest,
                "stratos_load_archive": str(archive),
                "stratos_load_files": str(files),
                "stratos_load_wallet": options.wallet,
                "stratos_load_seconds": options.seconds,
                "stratos_load_results": str(run),
            },
            limit=list(hosts),
            say=say,
        )
    finally:
        shutil.rmtree(files, ignore_errors=True)  # it holds the wallet
    return _judged(merge({host: run / host for host in hosts}, missing=done.failed), run)


def _write_files(folder: TestnetFolder, target: Path, options: LoadOptions, hosts: dict[str, Machine]) -> None:
    (target / "hosts").mkdir(mode=0o700, parents=True)
    (target / "wallets").mkdir(mode=0o700)
    for source in (folder.genesis_file, folder.endpoints_file):
        shutil.copyfile(source, target / source.name)
    wallet = f"{options.wallet}.json"
    descriptor = os.open(target / "wallets" / wallet, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write((folder.wallets / wallet).read_bytes())
    for host in hosts:
        text = locust_config(options, host=host, testnet=FOLDER, results=f"{FOLDER}/results/{RESULT}")
        (target / "hosts" / f"{host}.conf").write_text(text, encoding="utf-8")


def _judged(result: LoadResult, run: Path) -> LoadResult:
    if not result.hosts:
        reasons = "; ".join(f"{host}: {reason}" for host, reason in result.missing.items())
        raise EnvironmentFault(f"no load host came back with results ({reasons}); what there is lies in {run}")
    return result
