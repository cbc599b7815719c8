"""A Debian root file system made on the spot and imported into an engine, for where no registry can be pulled from.

`mmdebstrap` makes it from the distribution's own signed archive in about half a minute; the engine receives it through its API as one
tar, so a remote engine (DOCKER_HOST) works too. What it was made from (packages, hooks, import changes, architecture) is digested
into the image's tag, so the same wish finds the image that is there and a changed wish makes another one beside it. The tar is
complete before it is imported: an interrupted run leaves no image that looks whole. Documentation, manuals and translations are never
unpacked, and nothing of apt's lists and caches stays; licence texts (`copyright`) do.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import docker
import msgspec
from docker.errors import APIError, ImageNotFound

from orchestrator.errors import EnvironmentFault

SUITE = "bookworm"
MIRROR_VARIABLE = "STRATOS_DEBIAN_MIRROR"
DIGEST_LABEL = "network.stratos.base"
RECIPE = 2
"""Part of the digest: raised when this file makes something else from the same inputs."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
_KEPT = "/usr/share/doc/*/copyright"
_CLEAN = (
    'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/*-old "$1"/var/log/*.log '
    '"$1"/var/log/apt "$1"/var/lib/dpkg/*-old'
)
_TOOL = "mmdebstrap"
_IMPORT_TIMEOUT_SECONDS = 600

Say = Callable[[str], None]


def base_image(
    docker_client: docker.DockerClient,
    *,
    name: str,
    packages: Sequence[str],
    say: Say,
    hooks: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> str:
    """The tag `name:<digest>` of a minimal Debian with `packages`, made unless it is there.

    `hooks` are shell lines that run outside the new root, whose path is "$1", after the packages are configured (`chroot "$1" …`
    runs inside). `changes` are Dockerfile instructions of the import: CMD, ENV, ENTRYPOINT, LABEL, EXPOSE, STOPSIGNAL, VOLUME …
    Raises EnvironmentFault when the tool is missing, the archive does not answer or the engine refuses.
    """
    architecture = _architecture(docker_client)
    digest = base_digest(packages=packages, architecture=architecture, hooks=hooks, changes=changes)
    tag = f"{name}:{digest[:16]}"
    with _one_at_a_time(digest):
        if has_image(docker_client, tag):
            return tag
        tool = _find_tool(say)
        say(f"making the base image {tag} from the Debian archive (once; about half a minute)")
        with tempfile.TemporaryDirectory(prefix="stratos-base-") as folder:
            archive = Path(folder) / "root.tar"
            _make(tool, archive, packages=packages, architecture=architecture, hooks=hooks, say=say)
            say(f"importing {archive.stat().st_size / 1e6:.0f} MB into the engine as {tag}")
            _import(docker_client, archive, tag, [*changes, f"LABEL {DIGEST_LABEL}={digest}"])
    return tag


def base_digest(*, packages: Sequence[str], architecture: str, hooks: Sequence[str], changes: Sequence[str]) -> str:
    """What a base is made from, as 64 hex digits; the order of packages does not matter."""
    inputs = {
        "recipe": RECIPE,
        "suite": SUITE,
        "architecture": architecture,
        "packages": sorted(set(packages)),
        "hooks": list(hooks),
        "changes": list(changes),
    }
    return hashlib.sha256(msgspec.json.encode(inputs, order="sorted")).hexdigest()


def has_image(docker_client: docker.DockerClient, tag: str) -> bool:
    """Whether the engine holds an image of this name."""
    try:
        docker_client.images.get(tag)
    except ImageNotFound:
        return False
    except APIError as error:
        raise EnvironmentFault(f"the container engine cannot look up {tag}: {error.explanation or error}") from error
    return True


def _architecture(docker_client: docker.DockerClient) -> str:
    machine = str(docker_client.version()["Arch"])
    return _ARCHITECTURES.get(machine, machine)


def _find_tool(say: Say) -> str:
    found = shutil.which(_TOOL)
    if found is not None:
        return found
    how = f"install it (Debian, Ubuntu: apt-get install {_TOOL} debian-archive-keyring) or give the engine a registry"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise EnvironmentFault(f"no registry answers and {_TOOL}, which makes a base image, is not installed; {how}")
    say(f"installing {_TOOL}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", _TOOL, "debian-archive-keyring"]):
        done = subprocess.run(
            ["apt-get", "-qq", *words], check=False, env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
        if done.returncode != 0:
            raise EnvironmentFault(f"apt-get could not install {_TOOL} ({_last(done.stderr)}); {how}")
    found = shutil.which(_TOOL)
    if found is None:
        raise EnvironmentFault(f"{_TOOL} was installed but is not on the PATH; {how}")
    return found


def _last(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def bootstrap_command(
    tool: str, archive: Path, *, packages: Sequence[str], architecture: str, hooks: Sequence[str]
) -> list[str]:
    """The command line that writes the root file system to `archive`."""
    command = [tool, "--variant=minbase", f"--architectures={architecture}", "--format=tar"]
    # With a root that is merged from the start, the package that would merge it, and all of Perl with it, is not needed.
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    command += [f"--include={','.join(sorted({'usr-is-merged', *packages}))}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    command += [f"--dpkgopt=path-include={_KEPT}"]
    command += ['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"']
    command += [f"--customize-hook={hook}" for hook in (*hooks, _CLEAN)]
    command += [SUITE, str(archive)]
    mirror = os.environ.get(MIRROR_VARIABLE)
    return [*command, mirror] if mirror else command


def _make(
    tool: str, archive: Path, *, packages: Sequence[str], architecture: str, hooks: Sequence[str], say: Say
) -> None:
    command = bootstrap_command(tool, archive, packages=packages, architecture=architecture, hooks=hooks)
    tail: collections.deque[str] = collections.deque(maxlen=12)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            tail.append(line.rstrip())
            if line.startswith("I: "):
                say(f"{_TOOL}: {line[3:].rstrip()}")
    if process.returncode != 0:
        telling = [line for line in tail if line.startswith(("E:", "Err:"))] or list(tail)
        raise EnvironmentFault(
            f"{_TOOL} could not make a base image ({'; '.join(telling)[:400]}); check the way to the Debian archive "
            f"({MIRROR_VARIABLE} names another mirror) and the disk"
        )


def _import(docker_client: docker.DockerClient, archive: Path, tag: str, changes: list[str]) -> None:
    repository, _, label = tag.partition(":")
    api = docker_client.api
    before, api.timeout = api.timeout, _IMPORT_TIMEOUT_SECONDS
    try:
        answer = api.import_image_from_file(str(archive), repository=repository, tag=label, changes=changes)
    except (APIError, OSError) as error:
        raise EnvironmentFault(
            f"the container engine did not take the base image {tag}: {error}; check its disk"
        ) from error
    finally:
        api.timeout = before
    if '"error"' in answer:
        raise EnvironmentFault(f"the container engine did not take the base image {tag}: {answer.strip()[-300:]}")


@contextlib.contextmanager
def _one_at_a_time(digest: str) -> Iterator[None]:
    """Two makers of the same base take turns; the second finds it made."""
    path = Path(tempfile.gettempdir()) / f"stratos-base-{os.geteuid()}-{digest[:16]}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
