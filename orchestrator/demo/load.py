"""The demo's Locust run: a process of its own, bounded in time, whose results are read from its files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.errors import EnvironmentFault

STOP_SECONDS = 15
START_SECONDS = 90


class LoadPlan(Struct, frozen=True):
    """How much of what, for how long."""

    seconds: int
    size: str = "64KiB-1MiB"
    seed: str = "demo"
    upload_users: int = 2
    download_users: int = 2
    stream_users: int = 2
    upload_rate: float = 1.5
    download_rate: float = 3.0
    stream_rate: float = 3.0


class LoadRun:
    """A running load generator. Use as a context manager: leaving it ends the process."""

    def __init__(self, plan: LoadPlan, *, checkout: Path, testnet: Path, folder: Path) -> None:
        self.plan = plan
        self.results_file = folder / "load.json"
        self.samples_file = folder / "load.samples.csv"
        self._log_file = folder / "load.log"
        users = plan.upload_users + plan.download_users + plan.stream_users
        command = [sys.executable, "-m", "locust", "-f", str(checkout / "loadtests" / "mixed.py")]
        command += ["--headless", "--only-summary", "--loglevel", "WARNING", "-u", str(users), "-r", str(users)]
        command += ["-t", f"{plan.seconds}s", "--stop-timeout", str(STOP_SECONDS)]
        command += ["--csv", str(folder / "load"), "--csv-full-history"]
        command += ["--testnet", str(testnet), "--results", str(self.results_file)]
        command += ["--seed", plan.seed, "--size", plan.size]
        for kind in ("upload", "download", "stream"):
            command += [f"--{kind}-users", str(getattr(plan, f"{kind}_users"))]
            command += [f"--{kind}-rate", str(getattr(plan, f"{kind}_rate"))]
        folder.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=checkout, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> "LoadRun":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def finish(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end; (exit code, results). Raises EnvironmentFault when there are none."""
        try:
            code = self._process.wait(timeout=self.plan.seconds + START_SECONDS + STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise EnvironmentFault(
                f"the load generator did not end in time; its words are in {self._log_file}"
            ) from error
        try:
            return code, json.loads(self.results_file.read_bytes())
        except (OSError, ValueError) as error:
            raise EnvironmentFault(
                f"the load generator ended with code {code} and without results ({error}); its words are in {self._log_file}"
            ) from error
