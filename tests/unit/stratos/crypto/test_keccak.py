"""Keccak-256 is the original Keccak, whole or in chunks."""

from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.keccak import Keccak256, keccak256


def test_published_digests() -> None:
    """The digests that every Ethereum tool gives, which SHA3-256 does not."""
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"


@given(st.lists(st.binary(max_size=400), max_size=8))
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    """Feeding chunks gives the hash of their concatenation."""
    fed = Keccak256()
    for chunk in chunks:
        fed.update(memoryview(chunk))
    assert fed.digest() == keccak256(b"".join(chunks))
