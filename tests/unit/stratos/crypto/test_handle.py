"""Handles parse strictly and print as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto import cid as cids
from stratos.crypto.handle import Handle, HandleError, parse_handle

PUBLISHED = "sdm://st1jn9skjsnxv26mekd8eu8a8aquh34v0m4mwgahg/v05j1m56k3597bm5a96nq7103fos15oe48qd2ud0"


def test_published_handle_is_accepted() -> None:
    """A handle of the public network parses and prints back."""
    assert str(parse_handle(PUBLISHED)) == PUBLISHED
    assert parse_handle(PUBLISHED).name is None
    assert parse_handle(PUBLISHED + "/my film.mp4").name == "my film.mp4"


@given(
    st.binary(min_size=20, max_size=20),
    st.binary(max_size=30),
    st.booleans(),
    st.none() | st.from_regex(r"[\w\-. ]{1,40}[\w]", fullmatch=True),
)
def test_round_trip(wallet: bytes, content: bytes, video: bool, name: str | None) -> None:
    """Printing and parsing are inverse."""
    handle = Handle(wallet, cids.file_cid(cids.multihash(content), video=video), name)
    assert parse_handle(str(handle)) == handle


@given(st.text(max_size=40), st.integers(0, len(PUBLISHED)))
def test_arbitrary_text_is_refused_or_prints_back(text: str, keep: int) -> None:
    """Parsing raises only HandleError, and what it accepts prints back unchanged."""
    candidate = PUBLISHED[:keep] + text
    try:
        handle = parse_handle(candidate)
    except HandleError:
        return
    assert str(handle) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        PUBLISHED[6:],
        "sds://" + PUBLISHED[6:],
        PUBLISHED + "/",
        PUBLISHED + "/a/b",
        PUBLISHED + "/..",
        PUBLISHED + "/.",
        PUBLISHED + "/a\x00b",
        PUBLISHED + "/a\nb",
        PUBLISHED + "/..\\x",
        PUBLISHED + "/" + "n" * 256,
        PUBLISHED[:-1],
        PUBLISHED.replace("st1jn9", "st1jn8"),
        "sdm://st1jn9skjsnxv26mekd8eu8a8aquh34v0m4mwgahg",
        PUBLISHED.upper(),
    ],
)
def test_malformed_handles_are_refused(text: str) -> None:
    """Wrong scheme, part, checksum, case or a name that is no file name."""
    with pytest.raises(HandleError):
        parse_handle(text)


def test_a_slice_is_no_handle() -> None:
    """Only whole files have handles."""
    named = cids.file_cid(cids.multihash(b""))
    with pytest.raises(HandleError, match="slice"):
        Handle(bytes(20), cids.slice_cid(named, 1, b""))
