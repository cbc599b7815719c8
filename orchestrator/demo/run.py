"""The demo from beginning to end: acts in order, the document of what happened, the report, and everything down again.

The load generator runs as its own process while the video is put and played; meanwhile epochs go by. Whatever happens,
the testnet is taken down at the end unless it is to be kept, and the document says every condition that did not hold.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.audit.evidence import AuditReport
from orchestrator.chain_api import ChainApi
from orchestrator.demo.document import MIN_EPOCHS, DemoAudit, DemoDocument, DemoReward, checks
from orchestrator.demo.load import LoadPlan, LoadRun
from orchestrator.demo.observing import compare_roots, count_copies
from orchestrator.demo.steps import (
    begin_folder,
    buy_ozone,
    counted,
    prove_one,
    show_video,
    wait_epochs,
    withdraw_one,
)
from orchestrator.report import plots
from orchestrator.report.data import Check, Operations, RunData, read_samples, this_environment
from orchestrator.report.page import write_report
from orchestrator.rewards.evidence import audit_testnet
from orchestrator.rewards.table import RewardTable, read_rewards
from orchestrator.runtimes.launch import LaunchedParent
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.lowering import lower_testnet
from orchestrator.testnet.raising import Raising, UpReport
from stratos.client.observer import Observer
from stratos.client.testnet import Testnet, load_testnet
from stratos.wire.genesis import Genesis

Say = Callable[[str], None]
EXTRA_EPOCHS = 20
"""Epochs that settling may take beyond those waited for."""
MATURE_SECONDS = 90.0


class DemoOptions(Struct, frozen=True, kw_only=True):
    """What a run is asked for."""

    inventory: Path
    checkout: Path
    load: LoadPlan
    keep: bool
    began: float
    """Wall time at which the command was started."""


class DemoResult(Struct, frozen=True):
    """What a run gave: the document, the rewards for printing."""

    document: DemoDocument
    rewards: RewardTable


def run_demo(
    options: DemoOptions, folder: TestnetFolder, *, launch: Callable[[], LaunchedParent], say: Say
) -> DemoResult:
    """Play all acts; raises the tool's errors when an act cannot do its work. The testnet is down afterwards."""
    begin_folder(folder)
    launched = launch()
    try:
        up = Raising(options.inventory, began=time.time(), say=lambda _: None, launched=launched).run()
        say(f"{sum(up.nodes.values())} nodes are up in {up.seconds:.1f} s and have verified a first upload")
        result = _acts(options, folder, up, say)
    finally:
        if not options.keep:
            lower_testnet(folder)
    seconds = round(time.time() - options.began, 3)
    say("the testnet is kept running" if options.keep else f"everything is down after {seconds:.1f} s")
    return DemoResult(msgspec.structs.replace(result.document, seconds=seconds), result.rewards)


def _acts(options: DemoOptions, folder: TestnetFolder, up: UpReport, say: Say) -> DemoResult:
    started = datetime.now(UTC)
    run_folder = folder.runs / started.strftime("demo-%Y%m%d-%H%M%S")
    testnet = load_testnet(folder.path)
    api = ChainApi(testnet.endpoints)
    epoch_seconds = testnet.genesis.meta.epoch_seconds
    with (
        Observer(testnet.genesis, testnet.endpoints) as observer,
        tempfile.TemporaryDirectory(prefix="stratos-demo-") as scratch,
        LoadRun(options.load, checkout=options.checkout, testnet=folder.path, folder=run_folder) as load,
    ):
        say(f"Locust sends uploads, downloads and streams for {options.load.seconds} s")
        threading.Thread(target=plots.preload, name="plots-preload", daemon=True).start()
        prepaid = buy_ozone(testnet)
        say(f"the user prepaid {prepaid.amount_wei} wei and got {prepaid.bought_noz} noz of ozone")
        video = show_video(testnet, Path(scratch))
        say(
            f"a video of {video.seconds:.0f} s was put in {video.segments} segments, {video.early_segments} of them "
            f"played before it was whole"
        )
        _, results = load.finish()
        say(
            f"{results['uploads']['ok']} uploads, {results['downloads']['ok']} downloads and "
            f"{results['streams']['ok']} streams were verified, {results['hash_mismatches']} hash mismatches"
        )
        wait_epochs(testnet, observer, MIN_EPOCHS, deadline_seconds=(MIN_EPOCHS + EXTRA_EPOCHS) * epoch_seconds)
        withdrawn = withdraw_one(folder, api, observer, deadline_seconds=MATURE_SECONDS)
        say(f"{withdrawn.node} withdrew {withdrawn.amount_wei} wei of matured rewards")
        copies = count_copies(observer, (testnet.wallet().address,))
        say(f"{copies.challenged} fresh challenges prove at least {copies.least} copies of {copies.slices} slices")
        roots = compare_roots(observer)
        chain, rewards = read_rewards(testnet.genesis, observer, api)
        audit = audit_testnet(testnet, observer=observer, chain=chain)
        say(
            f"audit of {audit.epochs} epochs and {audit.receipts_checked} receipts: {audit.verdict} {audit.reason}".rstrip()
        )
        proof = prove_one(testnet, observer, chain)
        say(f"the payout of {proof.node} in epoch {proof.epoch} is proven from {proof.receipts} receipts to the state")
    document = DemoDocument(
        up_seconds=up.seconds,
        nodes=up.nodes,
        height=roots.height,
        state_roots_equal=roots.equal,
        uploads=counted(results, "uploads"),
        downloads=counted(results, "downloads"),
        streams=counted(results, "streams"),
        hash_mismatches=int(results["hash_mismatches"]),
        copies_min=copies.least,
        copies_challenged=copies.challenged,
        slices_challenged=copies.slices,
        epochs_settled=rewards.epochs,
        rewards=tuple(
            DemoReward(one.node, one.role, one.traffic_noz, one.mining_wei, one.traffic_wei) for one in rewards.nodes
        ),
        audit=DemoAudit(audit.verdict, audit.epochs, audit.findings, audit.reason),
        video=video,
        prepaid=prepaid,
        withdrawn=withdrawn,
        proof=proof,
        report="",
    )
    wanted = {role: sum(node.role == role for node in folder.need_plan().nodes) for role in up.nodes}
    judged = checks(document, wanted_nodes=wanted)
    failures = tuple(f"{check.name}: {check.found}, wanted {check.wanted}" for check in judged if not check.ok)
    failures += tuple(f"{count} x {text}" for text, count in results["errors"].items())
    data = _run_data(options, document, judged, testnet, rewards, audit, results=results, load=load, started=started)
    page = write_report(data, run_folder)
    say(f"report: {page}")
    return DemoResult(msgspec.structs.replace(document, report=str(page), failures=failures), rewards)


def _run_data(
    options: DemoOptions,
    document: DemoDocument,
    judged: tuple[Check, ...],
    testnet: Testnet,
    rewards: RewardTable,
    audit: AuditReport,
    *,
    results: dict[str, Any],
    load: LoadRun,
    started: datetime,
) -> RunData:
    """The run as the report shows it."""
    return RunData(
        title="Stratos testnet demo",
        network=testnet.genesis.network,
        started=started.strftime("%Y-%m-%d %H:%M:%S UTC"),
        seconds=round(time.time() - options.began, 1),
        up_seconds=document.up_seconds,
        nodes=document.nodes,
        height=document.height,
        epochs_settled=document.epochs_settled,
        copies_min=document.copies_min,
        slices_challenged=document.slices_challenged,
        hash_mismatches=document.hash_mismatches,
        operations={
            kinds: Operations(told["ok"], told["failed"], told["bytes"], told["latency_ms"])
            for kinds, told in results.items()
            if kinds in ("uploads", "downloads", "streams")
        },
        checks=judged,
        findings=audit.findings,
        rewards=rewards.nodes,
        flows=rewards.flows,
        prices=rewards.prices,
        samples=read_samples(load.samples_file, started_at=float(results["started_at"])),
        settings=_settings(testnet.genesis, options.load),
        environment=this_environment(options.checkout),
        notes=(
            "Validators are paid by stake; what they can claim (mature) includes fees and the proposer bonus.",
            "All nodes, the load generator and the player shared this machine, so throughput is limited by its cores.",
        ),
    )


def _settings(genesis: Genesis, load: LoadPlan) -> dict[str, str]:
    return {
        "epoch_seconds": f"{genesis.meta.epoch_seconds:g}",
        "day_seconds": str(genesis.ledger.day_seconds),
        "block_seconds": f"{genesis.value_consensus.block_seconds:g}",
        "mature_epoch": str(genesis.ledger.pot.mature_epoch),
        "settlement": genesis.ledger.sds.settlement,
        "community_tax": genesis.ledger.pot.community_tax,
        "copies": str(genesis.meta.copies),
        "load": f"{load.upload_users} uploaders, {load.download_users} downloaders, {load.stream_users} streamers, "
        f"objects of {load.size}, seed {load.seed}",
    }
