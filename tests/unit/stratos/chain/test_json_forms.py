"""Records over HTTP: what is shown can be sent back, and nothing else passes for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.chain.json_forms import FormError, from_json, to_json
from stratos.wire.block import Event
from stratos.wire.codec import encode
from stratos.wire.txs import (
    AuthoritySignature,
    CreateResourceNode,
    Delegate,
    Prepay,
    ProposeUpgrade,
    ReportRow,
    Send,
    Slash,
    Tx,
    TxBody,
    VolumeReport,
    Vote,
    VoteUpgrade,
)

address = st.binary(min_size=20, max_size=20)
amount = st.integers(0, 10**28).map(str)
signature = st.binary(min_size=64, max_size=64)
signatures = st.lists(st.builds(AuthoritySignature, address, signature), max_size=3).map(tuple)
hash32 = st.binary(min_size=32, max_size=32)
message = st.one_of(
    st.builds(Send, address, amount),
    st.builds(Delegate, address, amount),
    st.builds(Prepay, address, amount),
    st.builds(Vote, address, address, st.booleans()),
    st.builds(ProposeUpgrade, address, st.integers(0, 2**31 - 1), st.integers(0, 2**53)),
    st.builds(VoteUpgrade, address, st.integers(0, 2**31 - 1), st.integers(0, 2**53), st.booleans()),
    st.builds(
        CreateResourceNode,
        hash32,
        amount,
        address,
        st.text(max_size=20),
        st.text(max_size=20),
        st.just("h:1"),
        signature,
    ),
    st.builds(Slash, st.integers(0, 2**63 - 1), address, amount, st.booleans(), signatures),
    st.builds(
        VolumeReport,
        st.integers(0, 2**63 - 1),
        st.lists(st.builds(ReportRow, address, address, amount), max_size=3).map(tuple),
        hash32,
        st.lists(address, max_size=2).map(tuple),
        signatures,
    ),
)
transaction = st.builds(
    Tx,
    st.builds(TxBody, message, st.integers(0, 2**63 - 1), st.text(max_size=30)),
    st.binary(min_size=33, max_size=33),
    signature,
)


@given(transaction)
def test_a_transaction_shown_as_json_can_be_sent_back(tx: Tx) -> None:
    """The JSON form names every field and gives the same bytes again."""
    form = to_json(tx)
    assert encode(from_json(form, Tx)) == encode(tx)
    assert _has_no_numbers(form)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


@given(json_values)
def test_other_json_is_refused_with_a_sentence(value: Any) -> None:
    """Whatever arrives is a FormError, never another exception."""
    with pytest.raises(FormError):
        from_json(value, Tx)


@given(transaction, st.sampled_from(["body", "public_key", "signature"]), json_values)
def test_a_spoiled_field_is_refused_or_still_a_transaction(tx: Tx, field: str, value: Any) -> None:
    """Replacing one field by random JSON never passes unnoticed."""
    form = {**to_json(tx), field: value}
    try:
        found = from_json(form, Tx)
    except FormError:
        return
    assert isinstance(found, Tx)


def test_unknown_and_missing_fields_are_named() -> None:
    """The sentence leads to the place."""
    form = to_json(Tx(TxBody(Send(b"\0" * 20, "1"), 0, ""), b"\0" * 33, b"\0" * 64))
    with pytest.raises(FormError, match=r"\$\.body\.message has the unknown field 'amonut'"):
        from_json({**form, "body": {**form["body"], "message": {**form["body"]["message"], "amonut": "1"}}}, Tx)
    with pytest.raises(FormError, match=r"\$\.signature is missing"):
        from_json({name: form[name] for name in ("body", "public_key")}, Tx)
    with pytest.raises(FormError, match="known are"):
        from_json({**form, "body": {**form["body"], "message": {"type": "steal"}}}, Tx)


def test_events_are_shown_by_name() -> None:
    """Attributes become an object."""
    event = Event("ozone_bought", (("wallet", "ab"), ("noz", "5")))
    assert to_json(event) == {"kind": "ozone_bought", "attributes": {"wallet": "ab", "noz": "5"}}


def _has_no_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_has_no_numbers(item) for item in value.values())
    if isinstance(value, list):
        return all(_has_no_numbers(item) for item in value)
    return isinstance(value, (str, bool)) or value is None
