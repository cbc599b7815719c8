"""The systemd unit of one node on a machine: systemd supervises, the engine confines, the journal keeps the log.

The unit runs `docker run` in the foreground, so that there is one supervisor (systemd) and one place for logs (the
journal; the engine keeps none). The container has no more than the image needs: the node's home, a small /tmp, no
capability, no new privileges, a read-only root, and the limits of the inventory. What the container may use is said
here and nowhere else, so a changed limit or image is a changed unit, and that is what a restart is decided on.

A start first writes down which digest it starts with (`/run/stratos/TESTNET/NODE.digest`), whoever asked for it: an
operator, the boot or systemd after a crash. Comparing it with the placed digest tells a node that runs with old files.

A node that ends with 2 (its config, genesis, key or store is wrong) stays down: no restart can help, and a failed unit
is seen where an endless loop is not. Everything else is started again, later and later (systemd 254; older ones ignore
the two lines and try every two seconds).
"""

from __future__ import annotations

import re

from orchestrator.errors import BadInput

CONTAINER_UID = 10001
CONTAINER_HOME = "/home/stratos"
HOMES = "/var/lib/stratos"
RECORDS = "/etc/stratos"
STARTED = "/run/stratos"
STOP_SECONDS = 30
PIDS_LIMIT = 4096
TMP_BYTES = 64 << 20
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")


def container_name(testnet: str, node: str) -> str:
    """The container's name, which is also the journal's identifier."""
    return f"stratos-{testnet}-{node}"


def unit_name(testnet: str, node: str) -> str:
    """The unit's file name in /etc/systemd/system."""
    return f"{container_name(testnet, node)}.service"


def home_of(testnet: str, node: str) -> str:
    """The node's home on the machine, owned by uid 10001."""
    return f"{HOMES}/{testnet}/{node}"


def unit_text(
    *,
    testnet: str,
    node: str,
    role: str,
    image: str,
    image_id: str,
    cpus: float = 0.0,
    memory_bytes: int = 0,
    stop_seconds: int = STOP_SECONDS,
) -> str:
    """The unit file; 0 cpus or bytes mean no limit. Raises BadInput for a name that would need quoting."""
    for what, word in (("testnet", testnet), ("node", node), ("image", image), ("image id", image_id)):
        if not _WORD.fullmatch(word):
            raise BadInput(f"{what} {word!r} cannot stand in a unit; use letters, digits and . _ - : / @ + only")
    name = container_name(testnet, node)
    command = " \\\n    ".join(_command(name, testnet, node, role, image, image_id, cpus, memory_bytes, stop_seconds))
    remove = f'-/bin/sh -c "exec docker rm --force {name} >/dev/null 2>&1"'
    return f"""# Written by stratosctl; the next `up` writes it again.
[Unit]
Description=Stratos {role} node {node} of testnet {testnet}
Wants=docker.service network-online.target
After=docker.service network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStartPre={remove}
ExecStartPre=/usr/bin/install -D -m 0644 {RECORDS}/{testnet}/{node}.digest {STARTED}/{testnet}/{node}.digest
ExecStart={command}
ExecStop=docker stop --time {stop_seconds} {name}
ExecStopPost={remove}
SuccessExitStatus=143
RestartPreventExitStatus=2
Restart=always
RestartSec=2
RestartSteps=5
RestartMaxDelaySec=60
TimeoutStartSec=120
TimeoutStopSec={stop_seconds + 15}
KillMode=mixed
SyslogIdentifier={name}
LogRateLimitIntervalSec=0
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=yes
Environment=DOCKER_CONFIG=/nonexistent

[Install]
WantedBy=multi-user.target
"""


def _command(
    name: str,
    testnet: str,
    node: str,
    role: str,
    image: str,
    image_id: str,
    cpus: float,
    memory_bytes: int,
    stop_seconds: int,
) -> list[str]:
    limits = []
    if cpus:
        limits.append(f"--cpus {cpus:g}")
    if memory_bytes:
        limits.append(f"--memory {memory_bytes} --memory-swap {memory_bytes}")
    return [
        f"docker run --rm --pull never --name {name}",
        f"--label network.stratos.testnet={testnet} --label network.stratos.node={node}",
        f"--label network.stratos.role={role} --label network.stratos.image={image_id}",
        "--network host --log-driver none",
        f"--user {CONTAINER_UID}:{CONTAINER_UID} --cap-drop ALL --security-opt no-new-privileges",
        f"--read-only --tmpfs /tmp:rw,nosuid,nodev,noexec,size={TMP_BYTES}",
        f"--volume {home_of(testnet, node)}:{CONTAINER_HOME}",
        f"--pids-limit {PIDS_LIMIT} --stop-timeout {stop_seconds}",
        *limits,
        image,
        f"stratosd run --home {CONTAINER_HOME} --log stdout",
    ]
