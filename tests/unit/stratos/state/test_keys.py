"""Keys have a text that people can write, and every key has one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto import bech32
from stratos.state import KeyTextError, key_from_text, key_to_text

ADDRESS = bytes(range(20))


@given(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b"bank/balance/", b"register/meta/", b"pot/report/"]))
def test_every_key_reads_back_from_its_text(suffix: bytes, room: bytes) -> None:
    """key_from_text undoes key_to_text."""
    assert key_from_text(key_to_text(room + suffix)) == room + suffix


def test_wallets_and_nodes_are_written_as_addresses() -> None:
    """The room decides the prefix; hex and hex: are understood as well."""
    wallet = "bank/balance/" + bech32.encode(bech32.WALLET, ADDRESS)
    node = "register/meta/" + bech32.encode(bech32.NODE, ADDRESS)
    assert key_to_text(b"bank/balance/" + ADDRESS) == wallet
    assert key_to_text(b"register/meta/" + ADDRESS) == node
    assert key_from_text(wallet) == key_from_text("bank/balance/" + ADDRESS.hex()) == b"bank/balance/" + ADDRESS
    assert key_from_text("hex:" + (b"bank/balance/" + ADDRESS).hex()) == b"bank/balance/" + ADDRESS
    assert key_from_text("sds/remaining_limit") == b"sds/remaining_limit"


@pytest.mark.parametrize("text", ["", "hex:zz", "bank/balance/st1xyz", "bank/balance/zz", "bank/balance/é", "a" * 600])
def test_other_texts_are_refused(text: str) -> None:
    """One sentence, never a traceback."""
    with pytest.raises(KeyTextError):
        key_from_text(text)
