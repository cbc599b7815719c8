"""Ties a set of users to Locust's life cycle: options, preload, results, exit code.

A locustfile says `wire(Uploader)` and has everything: the shared workload is made when Locust knows its options, stored
objects are there before the first reader starts, and at the end all sessions are settled, results written and the
exit code set from the checks, whatever Locust itself thinks of the run.
"""

import logging
import time
from typing import Any

from locust import events
from locust.env import Environment

from loadtests.options import add_options, read_options
from loadtests.results import NO_EVIDENCE
from loadtests.users import LoadUser, Workload
from stratos.client import ClientError

_log = logging.getLogger("stratos.load")


def wire(*users: type[LoadUser]) -> None:
    """Register the life-cycle listeners for these user classes."""
    workload: Workload | None = None
    setup_failed = False
    events.init_command_line_parser.add_listener(add_options)

    @events.init.add_listener
    def prepare(environment: Environment, **_: Any) -> None:
        nonlocal workload
        try:
            workload = Workload(read_options(environment.parsed_options))
        except ValueError as error:
            raise SystemExit(f"loadtests: {error}") from error
        asked = any(workload.options.users.values())
        for user in users:
            user.workload = workload
            user.fixed_count = workload.options.users[user.kind]
        if asked:  # once one count is given, the kinds without a count have no users
            environment.user_classes[:] = [user for user in users if user.fixed_count]

    @events.test_start.add_listener
    def preload(environment: Environment, **_: Any) -> None:
        nonlocal setup_failed
        assert workload is not None
        try:
            workload.preload()
        except (ClientError, AssertionError, OSError) as error:
            setup_failed = True
            _log.error("preload failed: %s", error)
            workload.results.errors[f"preload: {error}"] += 1
            if environment.runner is not None:
                environment.runner.quit()
        workload.results.started_at = time.time()

    @events.test_stop.add_listener
    def note_end(**_: Any) -> None:
        assert workload is not None
        workload.results.ended_at = time.time()

    @events.quitting.add_listener
    def conclude(environment: Environment, **_: Any) -> None:
        assert workload is not None
        results = workload.results
        try:
            workload.close()
        except ClientError as error:
            results.errors[f"close: {error}"] += 1
            setup_failed_now = True
        else:
            setup_failed_now = setup_failed
        environment.process_exit_code = results.exit_code() or (NO_EVIDENCE if setup_failed_now else 0)
        if workload.options.results is not None:
            results.write(workload.options.results)
        for text, count in results.errors.most_common(5):
            _log.error("%d x %s", count, text)
