"""The image of a lab machine: Debian with systemd, sshd, sudo and an engine of its own, and as little else at boot as possible.

Two layers: packages (`image.rootfs`, once, half a minute) and what makes a machine of them (a few seconds). Both are named by a
digest of what they are made from. A machine is to be like a host fresh from a provider, so nothing of ours is installed; only units
that mean nothing in a container (consoles, device events, periodic maintenance) are masked, which brings a boot from seconds to 0.7 s.

`lab-init` runs before systemd and repairs what a container engine does without `--privileged`: each machine has a cgroup namespace,
mounted read-only, which systemd and the inner engine must write (version 1 and 2 alike); so limits of inner containers count within
the machine's, and a killed machine leaves no cgroup behind. Kernel settings of the machine's own network become writable, those of
the host stay read-only. /tmp and /home are moved onto the machine's volume at /var, because the
outer engine's own storage driver may be a slow one.
"""

from __future__ import annotations

import hashlib
import io
import tarfile

import docker
from docker.errors import APIError, BuildError

from orchestrator.errors import EnvironmentFault
from orchestrator.image.rootfs import Say, base_image, has_image
from orchestrator.lab.records import USER

NAME = "stratos-lab"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "docker.io",
    "iproute2",
    "iptables",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
PREPARED = ("chrony", "prometheus-node-exporter")
"""What our roles would install on each machine: with it, a rehearsal that is not about installing is minutes shorter."""
AUTHORIZED_KEYS = f"/etc/ssh/authorized_keys/{USER}"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
INIT = "/usr/local/sbin/lab-init"

MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-pcrphase.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-done.service",
)

_INIT_SCRIPT = """\
#!/bin/sh
# First process of a lab machine: make the container's own cgroups writable and put busy folders on the volume.
while read -r _ point kind _; do
    case $kind in cgroup | cgroup2) mount -o remount,bind,rw,nosuid,nodev,noexec "$point" ;; esac
done </proc/mounts
mount --bind /proc/sys/net /proc/sys/net && mount -o remount,bind,rw,nosuid,nodev,noexec /proc/sys/net
for folder in tmp home; do
    [ -d "/var/lab/$folder" ] || { mkdir -p /var/lab && cp -a "/$folder" "/var/lab/$folder"; }
    mount --bind "/var/lab/$folder" "/$folder"
done
exec /sbin/init
"""

_SSHD = f"""\
UseDNS no
PasswordAuthentication no
PermitRootLogin no
HostKey {HOST_KEY}
AuthorizedKeysFile /etc/ssh/authorized_keys/%u .ssh/authorized_keys
"""

_DOCKERFILE = """\
FROM {base}
COPY lab-init {init}
COPY lab.conf /etc/ssh/sshd_config.d/lab.conf
RUN chmod 0755 {init} && chmod 0644 /etc/ssh/sshd_config.d/lab.conf \\
 && useradd --create-home --shell /bin/bash {user} \\
 && echo '{user} ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/{user} && chmod 0440 /etc/sudoers.d/{user} \\
 && install -d -m 0755 /etc/ssh/authorized_keys /var/log/journal \\
 && rm -f /etc/ssh/ssh_host_* && : >/etc/machine-id \\
 && systemctl mask {masked} && systemctl set-default multi-user.target
ENV container=docker
STOPSIGNAL SIGRTMIN+3
CMD ["{init}"]
"""


def lab_image(client: docker.DockerClient, *, prepared: bool = False, say: Say) -> str:
    """The tag of the machines' image, made unless it is there; `prepared`: with what our roles install. Raises EnvironmentFault."""
    packages = (*PACKAGES, *PREPARED) if prepared else PACKAGES
    base = base_image(client, name=f"{NAME}-base", packages=packages, say=say)
    tag = image_tag(base)
    if has_image(client, tag):
        return tag
    say(f"making the machines' image {tag}")
    try:
        client.images.build(fileobj=context(base), custom_context=True, tag=tag, rm=True, forcerm=True, timeout=600)
    except (BuildError, APIError) as error:
        raise EnvironmentFault(f"the container engine could not make the lab's image {tag}: {error}") from error
    return tag


def image_tag(base: str) -> str:
    """The image's name: a digest of all it is made from."""
    digest = hashlib.sha256(repr((dockerfile(base), _INIT_SCRIPT, _SSHD)).encode()).hexdigest()
    return f"{NAME}:{digest[:16]}"


def dockerfile(base: str) -> str:
    """The recipe of the second layer."""
    return _DOCKERFILE.format(base=base, init=INIT, user=USER, masked=" ".join(MASKED))


def context(base: str) -> io.BytesIO:
    """What the engine builds from, as a tar in memory."""
    files = {"Dockerfile": dockerfile(base), "lab-init": _INIT_SCRIPT, "lab.conf": _SSHD}
    return archive({name: (text.encode(), 0o644) for name, text in files.items()})


def archive(files: dict[str, tuple[bytes, int]]) -> io.BytesIO:
    """A tar of files owned by root: path to (content, mode)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream
