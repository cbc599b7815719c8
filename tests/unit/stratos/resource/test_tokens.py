"""Tokens: a record of the meta layer's state is believed only with its proof and more than two thirds of signatures."""

import pytest
from bulk_net import EPOCH_SECONDS, Meta, now_ms, spec_of
from msgspec import structs

from stratos.crypto.keys import NodeKey
from stratos.resource.tokens import AuthorityTrust, TokenError, TokenVerifier, session_key
from stratos.wire.metalog import SESSION_CLOSING
from stratos.wire.transfer import MetaEvidence

HOLDER = b"h" * 20
CLIENT = NodeKey(b"c" * 32)


def verifier(meta: Meta) -> TokenVerifier:
    trust = AuthorityTrust(meta.genesis, meta.genesis_hash, lambda _height: [])
    return TokenVerifier(trust, now_ms=now_ms, max_age_ms=round(EPOCH_SECONDS * 1000))


def test_a_proven_session_is_believed(meta: Meta) -> None:
    """Session, allotment and how long they may be relied on come out of a good token."""
    session = meta.open_session(CLIENT)
    token = meta.session_token(session, HOLDER, 5000)
    found, allotment, until = verifier(meta).session(token, holder=HOLDER)
    assert (found, allotment.allotted_noz) == (session, 5000)
    assert until > now_ms()


def test_changed_records_are_not_in_the_state(meta: Meta) -> None:
    """A larger allotment, another key or another session than the proven ones is refused."""
    session = meta.open_session(CLIENT)
    token = meta.session_token(session, HOLDER, 5000)
    larger = structs.replace(token, allotment=structs.replace(token.allotment, allotted_noz=6000))
    stolen = structs.replace(token, session=structs.replace(session, key=b"k" * 32))
    other = structs.replace(token, session=structs.replace(session, id=b"x" * 16))
    for forged in (larger, stolen, other):
        with pytest.raises(TokenError, match="not in the state"):
            verifier(meta).session(forged, holder=HOLDER)


def test_one_holders_token_is_not_anothers(meta: Meta) -> None:
    """A token names its holder."""
    token = meta.session_token(meta.open_session(CLIENT), HOLDER, 5000)
    with pytest.raises(TokenError, match="show each holder its own"):
        verifier(meta).session(token, holder=b"o" * 20)


def test_too_few_or_wrong_signatures_prove_nothing(meta: Meta) -> None:
    """Half of the authorities, a signature on another block, and a foreign authority set are refused."""
    session = meta.open_session(CLIENT)
    good = meta.session_token(session, HOLDER, 5000)
    meta.signers = 2
    with pytest.raises(TokenError, match="two thirds"):
        verifier(meta).session(structs.replace(good, evidence=meta.evidence()), holder=HOLDER)
    moved = structs.replace(good.evidence.header, height=good.evidence.header.height + 1)
    with pytest.raises(TokenError, match="certificate"):
        verifier(meta).session(structs.replace(good, evidence=MetaEvidence(moved, good.evidence.commit)), holder=HOLDER)
    foreign = structs.replace(good.evidence.header, validators_hash=b"f" * 32)
    with pytest.raises(TokenError, match="nobody vouches"):
        verifier(meta).session(
            structs.replace(good, evidence=MetaEvidence(foreign, good.evidence.commit)), holder=HOLDER
        )


def test_another_networks_evidence_is_refused(meta: Meta) -> None:
    """The same authorities on another genesis prove nothing here."""
    session = meta.open_session(CLIENT)
    token = meta.session_token(session, HOLDER, 5000)
    header = structs.replace(token.evidence.header, genesis_hash=b"g" * 32)
    with pytest.raises(TokenError, match="another network"):
        verifier(meta).session(
            structs.replace(token, evidence=MetaEvidence(header, token.evidence.commit)), holder=HOLDER
        )


def test_closed_expired_and_aged_sessions_are_refused(meta: Meta) -> None:
    """A session that is closing, past its expiry, or proven by an old block is not served."""
    closed = meta.session_token(meta.open_session(CLIENT, status=SESSION_CLOSING), HOLDER, 10)
    with pytest.raises(TokenError, match="closed"):
        verifier(meta).session(closed, holder=HOLDER)
    session = structs.replace(meta.open_session(CLIENT), expiry_ms=now_ms() - 1)
    meta.set(session_key(session.id), session)
    with pytest.raises(TokenError, match="expired"):
        verifier(meta).session(meta.session_token(session, HOLDER, 10), holder=HOLDER)
    meta.time_ms = now_ms() - round(EPOCH_SECONDS * 1000) - 1000
    with pytest.raises(TokenError, match="fresh token") as aged:
        verifier(meta).session(meta.session_token(meta.open_session(CLIENT), HOLDER, 10), holder=HOLDER)
    assert aged.value.code == -5


def test_placements_and_repair_orders_need_their_proof(meta: Meta) -> None:
    """A placement with a holder added, or a repair order for another target, is refused."""
    session = meta.open_session(CLIENT)
    token = meta.placement_token(session, [(spec_of(b"data"), (HOLDER,))])
    placement, payer = verifier(meta).placement(token)
    assert (placement, payer) == (token.placement, session)
    more = structs.replace(token.placement.slices[0], holders=(HOLDER, b"o" * 20))
    forged = structs.replace(token, placement=structs.replace(token.placement, slices=(more,)))
    with pytest.raises(TokenError, match="not in the state"):
        verifier(meta).placement(forged)
    order = meta.repair_token(HOLDER, [spec_of(b"data")], b"s" * 20)
    assert verifier(meta).repair(order) == order.order
    with pytest.raises(TokenError, match="not in the state"):
        verifier(meta).repair(structs.replace(order, order=structs.replace(order.order, target=b"o" * 20)))
