"""Addresses and keys have exactly one text, and no mistyped text passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto import bech32

PREFIXES = sorted(bech32.PAYLOAD_BYTES)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """(prefix, payload, text)."""
    prefix = draw(st.sampled_from(PREFIXES))
    size = bech32.PAYLOAD_BYTES[prefix]
    payload = draw(st.binary(min_size=size, max_size=size))
    return prefix, payload, bech32.encode(prefix, payload)


@given(texts())
def test_round_trip(case: tuple[str, bytes, str]) -> None:
    """What was encoded comes back, under its own prefix only."""
    prefix, payload, text = case
    assert bech32.decode(prefix, text) == payload
    assert bech32.decode_any(text) == (prefix, payload)
    for other in PREFIXES:
        if other != prefix:
            with pytest.raises(bech32.Bech32Error):
                bech32.decode(other, text)


@given(texts(), st.data())
def test_one_mistyped_character_never_passes(case: tuple[str, bytes, str], data: st.DataObject) -> None:
    """Any single changed character is refused with a typed error."""
    _, _, text = case
    position = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda found: found != text[position]))
    with pytest.raises(bech32.Bech32Error):
        bech32.decode_any(text[:position] + letter + text[position + 1 :])


@given(st.text(max_size=120))
def test_arbitrary_text_is_refused_or_canonical(text: str) -> None:
    """Decoding never raises anything but Bech32Error, and accepts only what encode would write."""
    try:
        prefix, payload = bech32.decode_any(text)
    except bech32.Bech32Error:
        return
    assert bech32.encode(prefix, payload) == text


def test_a_wallet_of_the_public_network() -> None:
    """The published wallet text has a right checksum and 20 bytes behind it."""
    text = "st1jn9skjsnxv26mekd8eu8a8aquh34v0m4mwgahg"
    address = bech32.decode("st", text)
    assert len(address) == 20
    assert bech32.encode("st", address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "st",
        "st1",
        "1qqqqqq",
        "ST1JN9SKJSNXV26MEKD8EU8A8AQUH34V0M4MWGAHG",
        "st1Jn9skjsnxv26mekd8eu8a8aquh34v0m4mwgahg",
        "st1jn9skjsnxv26mekd8eu8a8aquh34v0m4mwgah",
        " st1jn9skjsnxv26mekd8eu8a8aquh34v0m4mwgahg",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "st1" + "q" * 10_000,
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    """Upper case, cut, padded, foreign and overlong texts are refused."""
    with pytest.raises(bech32.Bech32Error):
        bech32.decode_any(text)


def test_wrong_length_is_not_encoded() -> None:
    """An address of 19 bytes has no text."""
    with pytest.raises(bech32.Bech32Error, match="19"):
        bech32.encode("st", bytes(19))


def test_unknown_prefix_is_named() -> None:
    """The error names the prefix and the known ones."""
    with pytest.raises(bech32.Bech32Error, match=r"cosmos.*stvaloper"):
        bech32.encode("cosmos", bytes(20))
