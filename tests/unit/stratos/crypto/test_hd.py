"""Keys from words equal those of every other BIP-39 / BIP-32 tool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto import hd
from stratos.crypto.errors import CryptoError
from stratos.crypto.keys import NodeKey, WalletKey

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"


def test_bip39_seed_of_the_published_vector() -> None:
    """The first vector of BIP-39, with its passphrase TREZOR."""
    assert hd.seed_from_mnemonic(WORDS, "TREZOR").hex() == (
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04"
    )
    assert hd.new_mnemonic(bytes(16)) == WORDS


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("m", "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"),
        ("m/0'", "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"),
        ("m/0'/1", "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"),
        ("m/0'/1/2'", "cbce0d719ecf7431d88e6a89fa1483e02e35092af60c042b1df2ff59fa424dca"),
        ("m/0'/1/2'/2", "0f479245fb19a38a1954c5c7c0ebab2f9bdfd96a17563ef28a6a4b1a2a764ef4"),
        ("m/0'/1/2'/2/1000000000", "471b76e389e528d6de6d816857e012c5455051cad6660850e58372a6c3e6e7c8"),
    ],
)
def test_bip32_published_chain(path: str, key: str) -> None:
    """Test vector 1 of BIP-32."""
    assert hd.derive(bytes.fromhex("000102030405060708090a0b0c0d0e0f"), path).hex() == key


def test_leading_zeros_are_kept() -> None:
    """Test vector 3 of BIP-32, which caught implementations that drop leading zeros."""
    seed = bytes.fromhex(
        "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be"
    )
    assert hd.derive(seed, "m").hex() == "00ddb80b067e0d4993197fe10f2657a844a384589847602d56f0c629c81aae32"
    assert hd.derive(seed, "m/0'").hex() == "491f7a2eebc7b57028e0d3faa0acda02e75c33b03c48fb288c41e2ea44e1daef"


def test_wallet_derivation_is_ethereums_but_for_the_coin_type() -> None:
    """At Ethereum's path the well-known address comes out, so path and address rules are right."""
    assert (
        WalletKey.from_mnemonic(WORDS, path="m/44'/60'/0'/0/0").address.hex()
        == "9858effd232b4033e47d90003d41ec34ecaeda94"
    )
    assert WalletKey.from_mnemonic(WORDS).secret == hd.derive(hd.seed_from_mnemonic(WORDS), "m/44'/606'/0'/0/0")


def test_node_seed_is_the_key_at_its_path() -> None:
    """The secp256k1 key at m/44'/606'/0/0, last steps not hardened, is the ed25519 seed."""
    assert NodeKey.from_mnemonic(WORDS).seed == hd.derive(hd.seed_from_mnemonic(WORDS), "m/44'/606'/0/0")
    assert NodeKey.from_mnemonic(WORDS).seed != hd.derive(hd.seed_from_mnemonic(WORDS), "m/44'/606'/0'/0'")
    assert NodeKey.from_mnemonic(WORDS, "other").address != NodeKey.from_mnemonic(WORDS).address


@given(st.sampled_from([16, 20, 24, 28, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_generated_words_are_valid(entropy: bytes) -> None:
    """Words made from entropy pass their own checksum, whatever the spaces between them."""
    words = hd.new_mnemonic(entropy)
    assert len(hd.seed_from_mnemonic(words)) == 64
    assert hd.seed_from_mnemonic("  " + words.replace(" ", "\n ") + " ") == hd.seed_from_mnemonic(words)


@pytest.mark.parametrize(
    "words", ["", "abandon", WORDS + " about", WORDS.replace("about", "abandon"), WORDS.replace("about", "abuot")]
)
def test_wrong_words_are_refused_and_not_repeated(words: str) -> None:
    """A wrong count, checksum or word is refused, and the sentence does not spill the words."""
    with pytest.raises(hd.MnemonicError) as caught:
        hd.seed_from_mnemonic(words)
    assert "abandon" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["", "44'/606'", "m/", "m/x", "m/-1", "m/2147483648", "m/1''", "m/1h", "m/\u0661", "m" + "/0" * 256]
)
def test_malformed_paths_are_refused(path: str) -> None:
    """A path that is not m/number/number'... is refused."""
    with pytest.raises(CryptoError):
        hd.derive(bytes(32), path)


def test_odd_entropy_and_seeds_are_refused() -> None:
    """Too little randomness is refused by name."""
    with pytest.raises(CryptoError, match="entropy"):
        hd.new_mnemonic(bytes(15))
    with pytest.raises(CryptoError, match="seed"):
        hd.derive(bytes(8), "m")


def test_no_words_are_said_to_be_none() -> None:
    """Empty input is not counted as one word."""
    with pytest.raises(CryptoError, match="no secret words"):
        hd.seed_from_mnemonic(" \n")
