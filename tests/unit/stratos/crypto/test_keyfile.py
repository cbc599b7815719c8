"""Key files are private, whole, and never overwritten by accident."""

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.keyfile import KeyFileError, load_key, load_node_key, load_wallet_key, save_key
from stratos.crypto.keys import NodeKey, WalletKey

SECRET = bytes(range(1, 33))


@pytest.mark.parametrize("key", [WalletKey(SECRET), NodeKey(SECRET)])
def test_round_trip(tmp_path: Path, key: WalletKey | NodeKey) -> None:
    """A saved key comes back, in a file that only its owner may read, and nothing else stays in the folder."""
    path = tmp_path / "some.key"
    previous = os.umask(0)
    try:
        save_key(path, key)
    finally:
        os.umask(previous)
    loaded = load_key(path)
    assert type(loaded) is type(key)
    assert loaded.address == key.address
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    """A node key is not taken for a wallet key, nor the other way round."""
    save_key(tmp_path / "wallet", WalletKey(SECRET))
    save_key(tmp_path / "node", NodeKey(SECRET))
    assert load_wallet_key(tmp_path / "wallet").secret == SECRET
    assert load_node_key(tmp_path / "node").seed == SECRET
    with pytest.raises(KeyFileError, match="node key"):
        load_wallet_key(tmp_path / "node")
    with pytest.raises(KeyFileError, match="wallet key"):
        load_node_key(tmp_path / "wallet")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o644])
def test_wider_modes_are_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    """A file that others may touch is not used; the sentence says chmod 600."""
    path = tmp_path / "key"
    save_key(path, NodeKey(SECRET))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(path)


def test_a_key_is_not_overwritten(tmp_path: Path) -> None:
    """Saving over a key needs to be asked for; a refusal leaves the old key and no temporary file."""
    path = tmp_path / "key"
    save_key(path, WalletKey(SECRET))
    other = WalletKey.generate()
    with pytest.raises(KeyFileError, match="already exists"):
        save_key(path, other)
    assert load_wallet_key(path).secret == SECRET
    assert list(tmp_path.iterdir()) == [path]
    save_key(path, other, replace=True)
    assert load_wallet_key(path).address == other.address


def test_a_changed_secret_is_noticed(tmp_path: Path) -> None:
    """A file whose secret does not belong to its address is refused."""
    path = tmp_path / "key"
    save_key(path, NodeKey(SECRET))
    record = json.loads(path.read_text())
    record["secret"] = bytes(32).hex()
    path.write_text(json.dumps(record))
    with pytest.raises(KeyFileError, match="does not belong"):
        load_key(path)


@given(
    st.one_of(
        st.binary(max_size=100),
        st.dictionaries(
            st.sampled_from(["version", "kind", "secret"]),
            st.sampled_from([1, 2, None, "wallet", "node", "zz", "00" * 32, "ff" * 32, []]),
        ).map(lambda record: json.dumps(record).encode()),
    )
)
def test_malformed_files_are_refused_without_quoting_them(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever the file holds, the answer is KeyFileError and shows none of it."""
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        load_key(path)
    assert "ffff" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_missing_folder_and_overlong_files_are_refused(tmp_path: Path) -> None:
    """No file, a folder, or a huge file is named in one sentence."""
    with pytest.raises(KeyFileError, match="no key file"):
        load_key(tmp_path / "absent")
    with pytest.raises(KeyFileError, match="not a file"):
        load_key(tmp_path)
    path = tmp_path / "huge"
    path.write_bytes(b" " * 100_000)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a key file"):
        load_key(path)
