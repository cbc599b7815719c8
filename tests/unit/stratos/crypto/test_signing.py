"""Nothing signed for one purpose, chain or version can be taken for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.errors import CryptoError
from stratos.crypto.keccak import keccak256
from stratos.crypto.signing import PROTOCOL_VERSION, sign_bytes, wallet_digest

parts = st.tuples(
    st.binary(min_size=1, max_size=20),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=80),
    st.integers(0, 2**16 - 1),
)


@given(parts, parts)
def test_different_parts_never_share_bytes(
    left: tuple[bytes, bytes, bytes, int], right: tuple[bytes, bytes, bytes, int]
) -> None:
    """Signed bytes are equal only when tag, genesis, body and version are."""
    assert (sign_bytes(*left) == sign_bytes(*right)) == (left == right)


@given(st.binary(min_size=2, max_size=20), st.binary(min_size=32, max_size=32), st.binary(max_size=40), st.data())
def test_moving_a_border_changes_the_bytes(tag: bytes, genesis: bytes, body: bytes, data: st.DataObject) -> None:
    """A tag's end cannot be passed off as something else's beginning."""
    cut = data.draw(st.integers(1, len(tag) - 1))
    joined = tag[cut:] + genesis + body
    assert sign_bytes(tag, genesis, body) != sign_bytes(tag[:cut], joined[:32], joined[32:])


def test_the_layout_is_fixed() -> None:
    """The layout is part of the protocol: a change needs a new version."""
    expected = b"stratos\x00" + b"\x04vote" + b"\x00\x01" + bytes(32) + b"\x00\x00\x00\x02hi"
    assert sign_bytes(b"vote", bytes(32), b"hi") == expected
    assert PROTOCOL_VERSION == 1
    assert wallet_digest(b"vote", bytes(32), b"hi") == keccak256(expected)


@pytest.mark.parametrize(("tag", "genesis"), [(b"", bytes(32)), (b"t" * 256, bytes(32)), (b"t", bytes(31))])
def test_malformed_domains_are_refused(tag: bytes, genesis: bytes) -> None:
    """A domain without a tag or with a short genesis hash is a programming error that is not signed."""
    with pytest.raises(CryptoError):
        sign_bytes(tag, genesis, b"")
