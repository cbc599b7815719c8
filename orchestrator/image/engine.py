"""The way to a container engine: DOCKER_HOST or the local socket, and one sentence when it does not answer."""

from __future__ import annotations

import os
import socket

import docker
from docker.errors import DockerException

from orchestrator.errors import EnvironmentFault

OLDEST_API = (1, 41)
DEFAULT_HOST = "unix:///var/run/docker.sock"
_TIMEOUT_SECONDS = 120
_CONNECT_SECONDS = 5


def engine(*, timeout_seconds: int = _TIMEOUT_SECONDS, connections: int = 16) -> docker.DockerClient:
    """A client of the engine that the environment names; raises EnvironmentFault when there is none or it is too old."""
    where = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    try:
        _knock(where)
        client = docker.from_env(timeout=timeout_seconds, max_pool_size=connections)
        spoken = str(client.api.api_version)  # negotiated: the newest that both know
    except (DockerException, OSError, ValueError) as error:
        raise EnvironmentFault(
            f"no container engine answers at {where} ({reason(error)}); start it, or set DOCKER_HOST to one that runs"
        ) from error
    if tuple(int(part) for part in spoken.split(".")) < OLDEST_API:
        client.close()
        needed = ".".join(str(part) for part in OLDEST_API)
        raise EnvironmentFault(
            f"the container engine at {where} speaks API {spoken}, older than {needed}; install Docker 20.10 or newer"
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


def _knock(where: str) -> None:
    """Raise OSError when nobody listens on a local socket: said plainer and sooner than by the library."""
    if where.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_CONNECT_SECONDS)
            door.connect(where.removeprefix("unix://"))
