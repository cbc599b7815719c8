"""The fork parent: one exec'd, single-threaded process per testnet that preloads the node's code and forks nodes.

It imports, and never opens a loop, store, socket, logger thread or key; before each fork it asserts that it has one
thread. It speaks through files (records.py) and is woken by SIGHUP, by its children and by its own timers: the only
descriptors it keeps are its lock, a wake-up pipe and pidfds, and a child closes them all. It supervises what it
started and what it finds running in the homes, so when a parent dies its nodes go on and the next parent adopts them.

A child is made safe in this order: own session, default signals, home locked (one process per home, whatever happens),
wish read again (so a `down` that wrote its wish before looking at the locks misses nobody), identity written down,
output to the node's log, inherited descriptors closed, random sources reseeded. Only then does node code run.

Started with nothing but the name of the entry module; which testnet it serves is read from stdin once that is known
(preloading.py), because preloading costs as long as reading the inventory and both should happen at once.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from orchestrator.runtimes import supervision
from orchestrator.runtimes.identity import ProcessIdentity, identify, lock_holder, open_process, take_lock
from orchestrator.runtimes.preloading import Preloader, wait_for_order
from orchestrator.runtimes.records import (
    EXIT_LOCKED,
    EXIT_UNWANTED,
    NODE_LOCK,
    NODE_LOG,
    NODE_PROCESS,
    OBSERVED_FILE,
    PARENT_LOCK,
    PARENT_LOG,
    WANTED_FILE,
    Observed,
    ObservedNode,
    ProcessRecord,
    Wanted,
    WantedNode,
    read_record,
    write_record,
)
from orchestrator.runtimes.supervision import KILL, START, TERMINATE, Track

FOLDER_CHECK_SECONDS = 2.0
TAKEOVER_SECONDS = 10.0


class Supervisor:
    """The parent's loop over one testnet folder."""

    def __init__(self, folder: Path, *, preloader: Preloader, code: str) -> None:
        self.folder = folder
        self.own = folder / "supervisor"
        self.preloader = preloader
        self.code = code
        self.error = ""
        me = identify(os.getpid())
        assert me is not None
        self.identity = me
        self.wanted = Wanted()
        self.tracks: dict[str, Track] = {}
        self.descriptors: dict[str, int] = {}
        self.children: set[str] = set()
        self.written: bytes = b""
        self.told_to_leave = False
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Supervise until told to leave or to finish, or until the folder is gone."""
        for number in (signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._noted)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self._adopt_running()
        while True:
            self.wanted = self._read_wanted()
            if self.wanted.leave or self.told_to_leave:
                self._publish()
                return 0
            until = self._reconcile()
            if not self._publish():
                return 0
            idle = not any(track.process for track in self.tracks.values())
            if idle and (self.wanted.finish or self.error):  # one that cannot fork has nothing to stay for
                return 0
            forks = any(node.spawn == "fork" for node in self.wanted.nodes.values())
            if not (forks and self.preloader.step()):
                self._sleep(until)

    def _noted(self, number: int, frame: FrameType | None) -> None:
        """A signal only wakes the loop, what should be done stands in the wish; to be told to end means to leave."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self.told_to_leave = True

    def _read_wanted(self) -> Wanted:
        if not self.own.is_dir():  # somebody removed the testnet under us: nothing of it may stay behind
            return Wanted(revision=self.wanted.revision, finish=True)
        return read_record(self.own / WANTED_FILE, Wanted) or self.wanted

    def _adopt_running(self) -> None:
        nodes = self.folder / "nodes"
        for home in sorted(nodes.iterdir()) if nodes.is_dir() else ():
            self._adopt(home.name, home)

    def _adopt(self, name: str, home: Path) -> bool:
        """Take over the process that holds the home's lock, if there is one."""
        holder = lock_holder(home / NODE_LOCK)
        descriptor = open_process(holder) if holder is not None else None
        if holder is None or descriptor is None:
            return False
        record = read_record(home / NODE_PROCESS, ProcessRecord)
        known = record if record is not None and (record.pid, record.start) == tuple(holder) else None
        track = self.tracks.setdefault(name, Track())
        track.process = holder
        track.digest = known.digest if known is not None else ""
        track.started_ms = known.started_ms if known is not None else 0
        track.started_at = time.monotonic()
        self.descriptors[name] = descriptor
        self.children.discard(name)
        return True

    def _reconcile(self) -> float | None:
        """One step for every node; when to look again."""
        self._collect_ended()
        now = time.monotonic()
        times: list[float] = []
        for name in dict.fromkeys([*self.wanted.nodes, *self.tracks]):  # the wish is in start order
            wanted = self.wanted.nodes.get(name)
            track = self.tracks.setdefault(name, Track(retry=wanted.retry if wanted is not None else 0))
            step = supervision.decide(track, wanted, now)
            if step.action == START and wanted is not None and not self.error:
                self._start(name, wanted, track)
            elif step.action in (TERMINATE, KILL):
                number = signal.SIGKILL if step.action == KILL else signal.SIGTERM
                with contextlib.suppress(ProcessLookupError):  # an adopted node that has ended since it was looked at
                    signal.pidfd_send_signal(self.descriptors[name], number)
                supervision.stopping(track, step.action, now)
                times.append(now + supervision.GRACE_SECONDS)
            elif step.until is not None:
                times.append(step.until)
            if track.process is None and wanted is None:
                del self.tracks[name]
        return min(times) if times else None

    def _collect_ended(self) -> None:
        for name, descriptor in list(self.descriptors.items()):
            status: int | None = None
            if name in self.children:
                result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
                if result is None:
                    continue
                status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
            elif not _readable(descriptor):
                continue
            os.close(self.descriptors.pop(name))
            self.children.discard(name)
            track = self.tracks[name]
            wanted = self.wanted.nodes.get(name)
            supervision.ended(track, status, now=time.monotonic())
            if status == EXIT_LOCKED and wanted is not None:
                self._adopt(name, Path(wanted.home))

    def _start(self, name: str, wanted: WantedNode, track: Track) -> None:
        if wanted.spawn == "fork" and not self.preloader.load(wanted.role):
            self.error = self.preloader.error
            return
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads != 1 or threading.active_count() != 1:
            self.error = f"the fork parent has {threads} threads after preloading, so it must not fork; a node module starts one on import"
            return
        now_ms = time.time_ns() // 1_000_000
        pid = os.fork()
        if pid == 0:
            self._child(name, wanted, now_ms)
        process = identify(pid) or ProcessIdentity(pid, 0)
        self.descriptors[name] = os.pidfd_open(pid)
        self.children.add(name)
        supervision.started(track, process, wanted, now=time.monotonic(), now_ms=now_ms)

    def _child(self, name: str, wanted: WantedNode, now_ms: int) -> NoReturn:
        """In the new process: become the node, and never return."""
        code = 70
        try:
            code = _become_node(name, wanted, self.own / WANTED_FILE, entry=self.preloader.entry, now_ms=now_ms)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:  # noqa: BLE001  the last frame of a process: say what happened and leave
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    pass  # the disk of the log is full; the exit code still tells
            os._exit(code)

    def _publish(self) -> bool:
        """Write what is observed when it changed; False when the testnet's folder is gone and nothing runs."""
        nodes = {}
        for name, track in sorted(self.tracks.items()):
            wanted = self.wanted.nodes.get(name)
            process = track.process
            nodes[name] = ObservedNode(
                state=track.state(wanted=wanted is not None and wanted.run),
                pid=process.pid if process is not None else 0,
                start=process.start if process is not None else 0,
                digest=track.digest,
                since_ms=track.started_ms if process is not None else 0,
                restarts=track.restarts,
                last_exit=track.last_exit,
            )
        observed = Observed(
            pid=self.identity.pid,
            start=self.identity.start,
            code=self.code,
            revision=self.wanted.revision,
            nodes=nodes,
            error=self.error,
        )
        text = repr(observed).encode()
        if text != self.written:
            try:
                write_record(self.own / OBSERVED_FILE, observed)
            except FileNotFoundError:
                return any(track.process for track in self.tracks.values())
            self.written = text
        return True

    def _sleep(self, until: float | None) -> None:
        poller = select.poll()
        poller.register(self.wake_read, select.POLLIN)
        for descriptor in self.descriptors.values():
            poller.register(descriptor, select.POLLIN)
        pause = FOLDER_CHECK_SECONDS if until is None else min(FOLDER_CHECK_SECONDS, max(0.0, until - time.monotonic()))
        poller.poll(int(pause * 1000) + 1)
        try:
            while os.read(self.wake_read, 4096):
                pass
        except BlockingIOError:
            pass  # the pipe is empty, as it should be


def _readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _become_node(name: str, wanted: WantedNode, wish: Path, *, entry: Any, now_ms: int) -> int:
    """Turn a fresh child into the node; the node's exit code."""
    parent = os.getppid()
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o077)
    home = Path(wanted.home)
    lock = take_lock(home / NODE_LOCK)
    if lock is None:
        return EXIT_LOCKED
    now_wanted = (read_record(wish, Wanted) or Wanted()).nodes.get(name)
    if now_wanted is None or not now_wanted.run:
        return EXIT_UNWANTED
    me = identify(os.getpid())
    assert me is not None
    record = ProcessRecord(
        pid=me.pid, start=me.start, digest=wanted.digest, spawn=wanted.spawn, started_ms=now_ms, parent=parent
    )
    write_record(home / NODE_PROCESS, record)
    log = os.open(home / NODE_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    kept = {0, 1, 2, lock}
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the descriptor of the listing itself
    _name_process(name)
    random.seed()
    if wanted.spawn == "exec":
        os.set_inheritable(lock, True)
        os.execv(wanted.program[0], list(wanted.program))
    gc.enable()
    entry.run_node(home)
    return 0


def _name_process(name: str) -> None:
    """What `ps` and `top` show; the kernel keeps 15 bytes."""
    try:
        Path("/proc/self/comm").write_text(name[:15])
    except OSError:
        pass  # cosmetic


def main() -> int:
    """`python -m orchestrator.runtimes.forkserver ENTRY` with one JSON line on stdin: folder and code digest."""
    preloader = Preloader(sys.argv[1])
    line = wait_for_order(preloader)
    if line is None:
        return 0
    order = json.loads(line)
    folder = Path(order["folder"])
    os.umask(0o077)
    own = folder / "supervisor"
    deadline = time.monotonic() + TAKEOVER_SECONDS
    while (lock := take_lock(own / PARENT_LOCK)) is None:  # the parent before us is leaving
        if time.monotonic() > deadline:
            return EXIT_LOCKED
        time.sleep(0.005)
    log = os.open(own / PARENT_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    os.chdir("/")
    _name_process(f"stratos {folder.name}")
    code = Supervisor(folder, preloader=preloader, code=order["code"]).run()
    os.close(lock)
    return code


if __name__ == "__main__":
    sys.exit(main())
