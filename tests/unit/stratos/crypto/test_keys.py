"""Signatures verify for their key and message only, have one form, and secrets stay inside."""

import hashlib

import pytest
from coincurve import PublicKey
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto import bech32
from stratos.crypto.keccak import keccak256
from stratos.crypto.keys import (
    MalformedKeyError,
    NodeKey,
    WalletKey,
    node_address,
    verify_node,
    verify_wallet,
    wallet_address,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ORDER_OF_25519 = 2**252 + 27742317777372353535851937790883648493

secrets_of_wallets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
words32 = st.binary(min_size=32, max_size=32)
digests = words32.map(keccak256)


def flip(data: bytes, bit: int) -> bytes:
    """`data` with one bit turned."""
    position = bit % (len(data) * 8)
    return data[: position // 8] + bytes([data[position // 8] ^ 1 << position % 8]) + data[position // 8 + 1 :]


def test_wallet_address_is_ethereum_style() -> None:
    """The key 1 has the address that every Ethereum tool gives."""
    key = WalletKey.from_secret((1).to_bytes(32, "big"))
    assert key.address.hex() == "7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert key.public_key.hex() == "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert wallet_address(key.public_key) == key.address
    assert bech32.decode("st", key.text) == key.address


def test_node_key_is_rfc_8032() -> None:
    """Test 1 of RFC 8032, and the address of protocol 2."""
    key = NodeKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert key.address == hashlib.sha256(key.public_key).digest()[:20] == node_address(key.public_key)
    assert bech32.decode("stsds", key.text) == key.address


@given(secrets_of_wallets, digests, st.integers(0))
def test_wallet_signatures(secret: bytes, digest: bytes, bit: int) -> None:
    """A signature verifies, is the same every time, is low-s, and dies with any turned bit."""
    key = WalletKey(secret)
    signature = key.sign(digest)
    assert len(signature) == 64
    assert signature == key.sign(digest)
    assert int.from_bytes(signature[32:], "big") <= ORDER // 2
    assert verify_wallet(key.public_key, digest, signature)
    assert not verify_wallet(key.public_key, digest, flip(signature, bit))
    assert not verify_wallet(key.public_key, flip(digest, bit), signature)
    assert not verify_wallet(flip(key.public_key, bit), digest, signature)


@given(secrets_of_wallets, words32)
def test_the_high_s_twin_is_refused(secret: bytes, digest: bytes) -> None:
    """(r, n - s) is the same signature to plain ECDSA; accepting it would give one transaction two hashes."""
    key = WalletKey(secret)
    signature = key.sign(digest)
    twin = signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert not verify_wallet(key.public_key, digest, twin)


@given(words32, st.binary(max_size=100), st.integers(0))
def test_node_signatures(seed: bytes, message: bytes, bit: int) -> None:
    """A signature verifies, is the same every time, and dies with any turned bit."""
    key = NodeKey(seed)
    signature = key.sign(message)
    assert signature == key.sign(message)
    assert verify_node(key.public_key, message, signature)
    assert not verify_node(key.public_key, message, flip(signature, bit))
    assert not verify_node(key.public_key, message + b"\x00", signature)
    assert not verify_node(flip(key.public_key, bit), message, signature)


@given(words32, st.binary(max_size=50))
def test_the_ed25519_twin_is_refused(seed: bytes, message: bytes) -> None:
    """s + L verifies in careless libraries; here it does not."""
    key = NodeKey(seed)
    signature = key.sign(message)
    moved = int.from_bytes(signature[32:], "little") + ORDER_OF_25519
    assert not verify_node(key.public_key, message, signature[:32] + moved.to_bytes(32, "little"))


def test_small_order_keys_sign_nothing() -> None:
    """With a key of small order one signature would fit many messages."""
    small_order = bytes([1]) + bytes(31)
    assert not verify_node(small_order, b"anything", small_order + bytes(32))
    assert not verify_node(bytes(32), b"anything", bytes(64))


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_verification_never_raises(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Bytes from outside are answered with False, whatever they are."""
    assert not verify_wallet(public_key, message, signature)
    assert not verify_node(public_key, message, signature)


@given(secrets_of_wallets)
def test_uncompressed_and_foreign_keys_are_refused(secret: bytes) -> None:
    """One key has one byte form: 33 bytes compressed."""
    key = WalletKey(secret)
    long_form = PublicKey(key.public_key).format(compressed=False)
    digest = keccak256(b"")
    assert not verify_wallet(long_form, digest, key.sign(digest))
    with pytest.raises(MalformedKeyError):
        wallet_address(long_form)


@pytest.mark.parametrize("secret", [bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(31), bytes(33)])
def test_impossible_wallet_secrets_are_refused(secret: bytes) -> None:
    """0, the group order and other lengths are no keys, and the error shows no secret."""
    with pytest.raises(MalformedKeyError) as caught:
        WalletKey(secret)
    assert secret.hex() not in str(caught.value)


@given(words32.filter(lambda word: 0 < int.from_bytes(word, "big") < ORDER))
def test_secrets_are_not_shown(secret: bytes) -> None:
    """Neither repr nor str of a key contains its secret, raw or in hex."""
    for key in (WalletKey(secret), NodeKey(secret)):
        shown = f"{key!r} {key} {[key]}"
        assert secret.hex() not in shown
        assert repr(secret) not in shown
        assert key.text in shown


def test_generated_keys_differ() -> None:
    """New keys come from the random source."""
    assert WalletKey.generate().address != WalletKey.generate().address
    assert NodeKey.generate().address != NodeKey.generate().address


@pytest.mark.parametrize("public_key", [b"", bytes(33), b"\x02" + b"\xff" * 32, bytes(32)])
def test_addresses_of_malformed_keys_are_refused(public_key: bytes) -> None:
    """What is no point of the curve has no address."""
    with pytest.raises(MalformedKeyError):
        wallet_address(public_key)
