"""Content names follow protocol 2 to the byte and have one spelling."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto import cid as cids
from stratos.crypto.keccak import keccak256

EMPTY = "v05j1m555fu587j6jih6c1k0uheu1g2o8stakpm0"
HELLO = "v05j1m52c3o7rd6if0b6u23dcoaajjs77tlmkdco"
OF_A_HANDLE = "v05j1m56k3597bm5a96nq7103fos15oe48qd2ud0"

tags = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@pytest.mark.parametrize(("content", "text"), [(b"", EMPTY), (b"hello stratos", HELLO)])
def test_published_names(content: bytes, text: str) -> None:
    """The published names of two files come out."""
    assert cids.cid_text(cids.file_cid(cids.multihash(content))) == text


def test_published_name_of_the_handle_parses() -> None:
    """A name of the public network is canonical."""
    assert cids.cid_text(cids.parse_cid(OF_A_HANDLE)) == OF_A_HANDLE
    assert cids.cid_kind(cids.parse_cid(OF_A_HANDLE)) == "file"


def rule(data: bytes) -> bytes:
    """H(x) written a second time, straight from protocol 2."""
    return b"\x1b\x14" + keccak256(data)[:20]


@given(st.binary(max_size=200), tags, st.booleans(), st.integers(1, 2**64 - 1), st.binary(max_size=200))
def test_names_follow_the_rule(content: bytes, tag: str, video: bool, number: int, part: bytes) -> None:
    """File and slice names equal the rule of protocol 2 written out byte by byte."""
    of_file = rule(tag.encode() + rule(content))
    expected_file = b"\x01" + (b"\x72" if video else b"\x66") + of_file
    of_part = rule(number.to_bytes(8, "big") + part)
    mixed = bytes(a ^ b for a, b in zip(of_file, of_part, strict=True))
    expected_slice = b"\x01\x55" + rule(mixed)

    named = cids.file_cid(cids.multihash(content), tag=tag, video=video)
    assert named == expected_file
    assert cids.slice_cid(named, number, part) == expected_slice
    for name in (expected_file, expected_slice):
        text = cids.cid_text(name)
        assert len(text) == 40
        assert text == "v" + base64.b32hexencode(name).decode().rstrip("=").lower()
        assert cids.parse_cid(text) == name


@given(st.lists(st.binary(max_size=100), max_size=6), st.integers(1, 50))
def test_streaming_equals_whole(chunks: list[bytes], number: int) -> None:
    """Chunk borders do not change a file's or a slice's name."""
    whole = b"".join(chunks)
    file_hasher, slice_hasher = cids.FileHasher(), cids.SliceHasher(number)
    for chunk in chunks:
        file_hasher.update(chunk)
        slice_hasher.update(memoryview(chunk))
    named = cids.file_cid(file_hasher.multihash())
    assert named == cids.file_cid(cids.multihash(whole))
    assert slice_hasher.cid(named) == cids.slice_cid(named, number, whole)


def test_tag_number_and_kind_change_the_name() -> None:
    """A different tag, slice number or kind is a different name; m1 of a slice ignores the codec."""
    content = cids.multihash(b"content")
    plain, tagged, video = (
        cids.file_cid(content),
        cids.file_cid(content, tag="a1b2c3d4"),
        cids.file_cid(content, video=True),
    )
    assert len({plain, tagged, video}) == 3
    assert cids.slice_cid(plain, 1, b"x") != cids.slice_cid(plain, 2, b"x")
    assert cids.slice_cid(plain, 1, b"x") != cids.slice_cid(tagged, 1, b"x")
    assert cids.slice_cid(plain, 1, b"x") == cids.slice_cid(video, 1, b"x")


@given(st.one_of(st.text(max_size=60), st.text(alphabet="0123456789abcdefghijklmnopqrstuv", min_size=39, max_size=39)))
def test_only_canonical_text_parses(text: str) -> None:
    """Anything accepted is written back letter by letter; the rest raises CidError only."""
    for candidate in (text, "v" + text, EMPTY[:12] + text):
        try:
            parsed = cids.parse_cid(candidate)
        except cids.CidError:
            continue
        assert cids.cid_text(parsed) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY.upper(),
        "V" + EMPTY[1:],
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY + "=",
        EMPTY[:-1] + "1",  # a stray bit after the last byte
        EMPTY[:-1] + "w",
        "b" + EMPTY[1:],
        " " + EMPTY[:-1],
        EMPTY[:-1] + "\u0663",  # a digit that is not ASCII
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    """Wrong case, length, alphabet, multibase or stray bits are refused."""
    with pytest.raises(cids.CidError):
        cids.parse_cid(text)


@pytest.mark.parametrize(
    "raw", [b"", b"\x01\x70\x1b\x14" + bytes(20), b"\x00\x66\x1b\x14" + bytes(20), b"\x01\x66\x12\x20" + bytes(32)]
)
def test_foreign_cids_are_refused(raw: bytes) -> None:
    """Other versions, codecs and hashes are not names of this network."""
    with pytest.raises(cids.CidError):
        cids.check_cid(raw)


@pytest.mark.parametrize("number", [0, -1, 2**64])
def test_slices_number_from_one(number: int) -> None:
    """There is no slice 0."""
    with pytest.raises(cids.CidError, match="numbered from 1"):
        cids.SliceHasher(number)


@pytest.mark.parametrize("tag", ["é", "x" * 65])
def test_bad_tags_are_refused(tag: str) -> None:
    """Tags are short ASCII."""
    with pytest.raises(cids.CidError, match="ASCII"):
        cids.file_cid(cids.multihash(b""), tag=tag)


def test_a_plain_digest_is_no_multihash() -> None:
    """Passing the 32-byte digest, or a file's content, in place of H(file) is refused."""
    with pytest.raises(cids.CidError):
        cids.file_cid(keccak256(b""))
