"""Files on a machine: placed whole or not at all, found by digest, and no link followed where a container may write.

A node's home belongs to the container's user, so whoever takes over a node could put a link where root is about to
write. Every step into a home is therefore taken by directory descriptor with O_NOFOLLOW: a link is an error, never a
way out. Runs on the target: standard library only, Python 3.9 and newer.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path

FRESH = ".stratos-new"
"""Suffix of a file that is being written; what an interrupted run left is overwritten by the next."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PlacingError(Exception):
    """One sentence that names the path and what to do; the module fails with it."""


class Owner:
    """Who owns what is placed, and with which modes. Without rights to give files away (tests), nothing is given."""

    def __init__(self, uid, gid):
        self.uid, self.gid = (uid, gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())

    def holds(self, found, mode):
        return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (self.uid, self.gid, mode)

    def take(self, descriptor, mode):
        os.fchown(descriptor, self.uid, self.gid)
        os.fchmod(descriptor, mode)


ROOT = Owner(0, 0)


def make_directory(path, owner, mode):
    """Make a directory, or give it owner and mode; True when something changed. Its parent must be there."""
    try:
        Path(path).mkdir(0o700)
        made = True
    except FileExistsError:
        made = False
    with directory(path) as descriptor:
        if not made and owner.holds(os.fstat(descriptor), mode):
            return False
        owner.take(descriptor, mode)
    return True


@contextmanager
def directory(path, relative=""):
    """A descriptor of `path` / the folder of `relative`; no component of `relative` and not `path` itself may be a link."""
    descriptor = _opened(str(path), None, path)
    try:
        for part in Path(relative).parent.parts:
            inner = _opened(part, descriptor, path)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(name, parent, path):
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise PlacingError(
                f"{path}: {name} is a link or no directory; nothing of ours put it there, so look at it and remove it"
            ) from error
        raise


def digest_of(path, relative, owner, mode):
    """Hex SHA-256 of a file, "" when it is missing or no plain file; and whether owner and mode are right."""
    try:
        with directory(path, relative) as parent:
            descriptor = os.open(
                Path(relative).name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
            )
    except (FileNotFoundError, PlacingError):
        return "", False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return "", False
        raise
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return "", False
        return hashlib.sha256(file.read()).hexdigest(), owner.holds(found, mode)


def place(path, relative, content, owner, mode):
    """Write `path`/`relative` durably and whole, making folders between with mode 0700."""
    relative = checked(relative)
    for at in reversed(relative.parents[:-1] if len(relative.parents) > 1 else []):
        with directory(path, str(at)) as parent:
            try:
                os.mkdir(at.name, 0o700, dir_fd=parent)
            except FileExistsError:
                pass  # a run before this one made it
        with directory(path, str(at / "x")) as made:
            owner.take(made, 0o700)
    fresh = "." + relative.name + FRESH
    with directory(path, str(relative)) as parent:
        try:
            os.unlink(fresh, dir_fd=parent)
        except FileNotFoundError:
            pass  # the usual case: no run was interrupted here
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb") as file:
            owner.take(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(fresh, relative.name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)


def take_over(path, relative, owner, mode):
    """Give a file that is there its owner and mode."""
    with directory(path, relative) as parent:
        descriptor = os.open(Path(relative).name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            owner.take(descriptor, mode)
        finally:
            os.close(descriptor)


def remove(path, relative):
    """Remove a file when it is there; True when it was."""
    try:
        with directory(path, relative) as parent:
            os.unlink(Path(relative).name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def checked(relative):
    """A relative path that stays below its folder."""
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise PlacingError(f"{relative!r} is no path below a home; render the bundle again")
    return path


def read_json(path):
    """The document in a file of ours; None when there is none or it cannot be read as one."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path, document):
    """Replace a record of ours, readable for everybody: it holds digests and names only."""
    path = Path(path)
    place(path.parent, path.name, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode(), ROOT, 0o644)
