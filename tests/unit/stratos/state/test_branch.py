"""Overlays behave like a copy that is only kept when merged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.state import Branch, MemoryStore, State, StateError

keys = st.sampled_from([b"a/b/1", b"a/b/2", b"a/b/3", b"a/c/1", b"x", b"a/b/"])
writes = st.lists(st.tuples(keys, st.one_of(st.none(), st.binary(max_size=3))), max_size=12)


def _write(branch: Branch, model: dict[bytes, bytes], changes: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in changes:
        if value is None:
            branch.delete(key)
            model.pop(key, None)
        else:
            branch.set(key, value)
            model[key] = value


@given(writes, writes, writes, st.sampled_from([b"", b"a/", b"a/b/", b"a/b/2", b"z"]))
def test_a_branch_of_a_branch_reads_like_a_dict(
    first: list[tuple[bytes, bytes | None]],
    second: list[tuple[bytes, bytes | None]],
    third: list[tuple[bytes, bytes | None]],
    prefix: bytes,
) -> None:
    """get and items agree with a plain dict at every level, in key order, before and after merging."""
    store, model = MemoryStore(), dict[bytes, bytes]()
    base = Branch(store)
    _write(base, model, first)
    store.apply(base.changes())
    outer = Branch(store)
    _write(outer, model, second)
    inner = outer.branch()
    _write(inner, model, third)
    for level in (inner, outer):
        expected = sorted((key, value) for key, value in model.items() if key.startswith(prefix))
        assert list(level.items(prefix)) == expected
        assert all(level.get(key) == model.get(key) for key in (b"a/b/1", b"a/b/2", b"x"))
        if level is inner:
            inner.merge()
    store.apply(outer.changes())
    assert list(store.items(prefix)) == expected


def test_a_thrown_away_branch_leaves_nothing() -> None:
    """What is not merged never happened."""
    outer = Branch(MemoryStore())
    outer.set(b"k", b"1")
    inner = outer.branch()
    inner.set(b"k", b"2")
    assert outer.get(b"k") == b"1"


def test_writing_while_walking_is_allowed() -> None:
    """Iteration sees the state as it was when it started."""
    branch = Branch(MemoryStore())
    for number in range(5):
        branch.set(b"a/b/%d" % number, b"v")
    for key, _ in branch.items(b"a/b/"):
        branch.delete(key)
    assert list(branch.items(b"")) == []


def test_only_a_branch_of_a_branch_merges() -> None:
    """The state changes by commit, never by merge."""
    with pytest.raises(TypeError, match="commit"):
        Branch(MemoryStore()).merge()


def test_preview_and_commit_agree_and_forks_are_independent() -> None:
    """Several forks are previewed; one is committed with the root it was told; the others are forgotten."""
    state = State()
    one, two = state.fork(), state.fork()
    one.set(b"k", b"1")
    two.set(b"k", b"2")
    roots = [state.preview(one), state.preview(two)]
    assert roots[0] != roots[1]
    assert state.get(b"k") is None
    assert state.commit(two, 1, {b"block": b"x"}) == roots[1] == state.root
    assert (state.get(b"k"), state.height, state.extra(b"block")) == (b"2", 1, b"x")


def test_a_previewed_branch_cannot_change_any_more() -> None:
    """A root that was told to others stays true."""
    state = State()
    branch = state.fork()
    branch.set(b"k", b"1")
    state.preview(branch)
    with pytest.raises(TypeError):
        branch.set(b"k", b"2")


def test_foreign_branches_are_refused() -> None:
    """A state commits its own forks only."""
    with pytest.raises(StateError, match="forked"):
        State().preview(State().fork())
