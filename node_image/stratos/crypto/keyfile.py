"""Secret keys on disk: small JSON files that only their owner may read.

A file is written under another name, synced and renamed, so a crash leaves the old key or the new one and never half of
one; an existing key is never overwritten by accident. A file that group or others may touch is refused on load, with the
command that mends it, because a key that was readable may already be known.
"""

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path

from stratos.crypto.errors import CryptoError
from stratos.crypto.keys import NodeKey, WalletKey

_VERSION = 1
_MAX_FILE_BYTES = 4096
_WALLET = "wallet"
_NODE = "node"


class KeyFileError(CryptoError):
    """A key file is missing, readable by others, malformed, of another kind, or in the way."""


def dump_key(key: WalletKey | NodeKey) -> bytes:
    """What a key file holds, for whoever places files by other means; the caller keeps it from other eyes."""
    if isinstance(key, WalletKey):
        record = {"version": _VERSION, "kind": _WALLET, "address": key.text, "secret": key.secret.hex()}
    else:
        record = {"version": _VERSION, "kind": _NODE, "address": key.text, "secret": key.seed.hex()}
    return json.dumps(record, indent=1).encode("ascii") + b"\n"


def save_key(path: Path, key: WalletKey | NodeKey, *, replace: bool = False) -> None:
    """Write `key` to `path` with mode 0600, durably; raises KeyFileError when a file is there and `replace` is not set."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(dump_key(key))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _rename_onto_nothing(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    _sync_folder(path.parent)


def load_key(path: Path) -> WalletKey | NodeKey:
    """The key in `path`; raises KeyFileError with the fix when it cannot be trusted or read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
    except FileNotFoundError:
        raise KeyFileError(f"there is no key file {path}; make one or name another") from None
    except OSError as error:
        raise KeyFileError(
            f"the key file {path} cannot be opened: {error.strerror}; check its owner and mode"
        ) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(f"{path} is not a file; name the key file itself")
        if mode & 0o077:
            raise KeyFileError(
                f"{path} has mode {stat.S_IMODE(mode):04o}, so others may read it; run: chmod 600 {path}"
            )
        data = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    return _parse(data, path)


def load_wallet_key(path: Path) -> WalletKey:
    """The wallet key in `path`; raises KeyFileError, also when it holds a node key."""
    key = load_key(path)
    if not isinstance(key, WalletKey):
        raise KeyFileError(f"{path} holds a node key; a wallet key is needed here")
    return key


def load_node_key(path: Path) -> NodeKey:
    """The node key in `path`; raises KeyFileError, also when it holds a wallet key."""
    key = load_key(path)
    if not isinstance(key, NodeKey):
        raise KeyFileError(f"{path} holds a wallet key; a node key is needed here")
    return key


def _parse(data: bytes, path: Path) -> WalletKey | NodeKey:
    # What the file holds is secret, so no error below quotes any of it or keeps the original error as its cause.
    broken = KeyFileError(f"{path} is not a key file of version {_VERSION}; restore it from its backup or its mnemonic")
    try:
        record = json.loads(data) if len(data) <= _MAX_FILE_BYTES else None
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(record, dict) or record.get("version") != _VERSION or not isinstance(record.get("secret"), str):
        raise broken
    kind = record.get("kind")
    key: WalletKey | NodeKey
    try:
        secret = bytes.fromhex(record["secret"])
        if kind == _WALLET:
            key = WalletKey.from_secret(secret)
        elif kind == _NODE:
            key = NodeKey.from_seed(secret)
        else:
            raise broken
    except ValueError:
        raise broken from None
    if record.get("address") != key.text:
        raise KeyFileError(f"the secret in {path} does not belong to the address in it; restore it from its backup")
    return key


def _rename_onto_nothing(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise KeyFileError(
            f"{path} already exists and a key is never overwritten; move it away or name another"
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
