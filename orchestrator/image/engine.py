"""The way to a container engine: DOCKER_HOST or the local socket, and one sentence when it does not answer."""

from __future__ import annotations

import os

import docker
from docker.errors import DockerException

from orchestrator.errors import EnvironmentFault

OLDEST_API = (1, 41)
_TIMEOUT_SECONDS = 120


def engine(*, timeout_seconds: int = _TIMEOUT_SECONDS, connections: int = 16) -> docker.DockerClient:
    """A client of the engine that the environment names; raises EnvironmentFault when there is none or it is too old."""
    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        client = docker.from_env(timeout=timeout_seconds, max_pool_size=connections)
        version = str(client.version()["ApiVersion"])
    except (DockerException, OSError, ValueError) as error:
        raise EnvironmentFault(
            f"no container engine answers at {where} ({reason(error)}); start it, or set DOCKER_HOST to one that runs"
        ) from error
    if tuple(int(part) for part in version.split(".")) < OLDEST_API:
        client.close()
        needed = ".".join(str(part) for part in OLDEST_API)
        raise EnvironmentFault(
            f"the container engine at {where} speaks API {version}, older than {needed}; install Docker 20.10 or newer"
        )
    return client


def reason(error: BaseException) -> str:
    """The innermost cause in a few words: what the socket said, rather than the chain of wrappers around it."""
    cause: BaseException = error
    seen = {id(cause)}
    while True:
        inner = cause.__cause__ or cause.__context__
        if inner is None or id(inner) in seen:
            break
        cause = inner
        seen.add(id(cause))
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause)[:200] or type(cause).__name__
