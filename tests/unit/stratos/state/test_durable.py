"""A committed block survives; nothing else does."""

from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from stratos.state import DurableState, State, StateError


def test_the_last_commit_is_there_after_reopening(tmp_path: Path) -> None:
    """State, height, root and extra records come back; a fork that was not committed does not."""
    state = DurableState.open(tmp_path / "db")
    memory = State()
    for height, changes in enumerate(({b"a/b/1": b"x", b"a/b/2": b"y"}, {b"a/b/1": None, b"c": b"z"}), 1):
        for target in (state, memory):
            branch = target.fork()
            for key, value in changes.items():
                if value is None:
                    branch.delete(key)
                else:
                    branch.set(key, value)
            target.commit(branch, height, {b"block": b"%d" % height})
    lost = state.fork()
    lost.set(b"d", b"never")
    state.preview(lost)
    state.close()
    again = DurableState.open(tmp_path / "db")
    assert (again.height, again.root, again.extra(b"block")) == (2, memory.root, b"2")
    assert list(again.items(b"")) == list(memory.items(b"")) == [(b"a/b/2", b"y"), (b"c", b"z")]
    again.close()


def test_a_fresh_store_is_empty_at_height_0(tmp_path: Path) -> None:
    """Nothing committed, nothing there; extra records may be kept all the same."""
    state = DurableState.open(tmp_path / "db")
    assert (state.height, len(state), state.extra(b"k")) == (0, 0, None)
    state.put_extra({b"k": b"v"})
    state.close()
    again = DurableState.open(tmp_path / "db")
    assert again.extra(b"k") == b"v"
    again.close()


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    """Content that does not give the committed root is never voted on."""
    state = DurableState.open(tmp_path / "db")
    branch = state.fork()
    branch.set(b"k", b"1")
    state.commit(branch, 1)
    state.close()
    raw = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    raw.put(b"sk", b"2")
    raw.close()
    with pytest.raises(StateError, match="damaged"):
        DurableState.open(tmp_path / "db")


def test_another_store_version_is_refused(tmp_path: Path) -> None:
    """An unknown version is an error, not a guess."""
    DurableState.open(tmp_path / "db").close()
    raw = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    raw.put(b"mversion", b"99")
    raw.close()
    with pytest.raises(StateError, match="version"):
        DurableState.open(tmp_path / "db")


def test_two_processes_cannot_share_a_store(tmp_path: Path) -> None:
    """A store that is open is refused with a sentence."""
    state = DurableState.open(tmp_path / "db")
    with pytest.raises(StateError, match="another process"):
        DurableState.open(tmp_path / "db")
    state.close()


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    """The sentence names the store, both versions, and the fix; the store is left as it is."""
    DurableState.open(tmp_path / "meta").close()
    store = Rdict(str(tmp_path / "meta"), Options(raw_mode=True))
    store[b"mversion"] = b"7"
    store.close()
    for _ in range(2):
        with pytest.raises(
            StateError, match=r"meta has store version '7' and this program reads '1'; start it with the image"
        ):
            DurableState.open(tmp_path / "meta")
