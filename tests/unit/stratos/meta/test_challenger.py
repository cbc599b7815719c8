"""A possession proof is judged by every part of it; a holder that cannot be asked is not judged."""

import datetime
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import structs

from stratos.crypto.keys import NodeKey
from stratos.crypto.merkle import MerkleTree
from stratos.crypto.signing import sign_bytes
from stratos.meta.challenger import NotJudged, challenge, possession_fault
from stratos.meta.rooms import ACTIVE, Holder
from stratos.net.tls import client_context
from stratos.wire.limits import PROOF_PIECE_BYTES
from stratos.wire.metalog import SliceSpec
from stratos.wire.transfer import TAG_POSSESSION, PossessionProof

KEY = NodeKey(b"k" * 32)
GENESIS = b"g" * 32
NONCE = b"n" * 16
DATA = blake3(b"data").digest(length=150_000)
PIECES = [DATA[start : start + PROOF_PIECE_BYTES] for start in range(0, len(DATA), PROOF_PIECE_BYTES)]
TREE = MerkleTree([blake3(piece).digest() for piece in PIECES])
SPEC = SliceSpec(TREE.root, len(DATA))


def prove(piece: int, *, nonce: bytes = NONCE, key: NodeKey = KEY) -> PossessionProof:
    signed = sign_bytes(TAG_POSSESSION, GENESIS, nonce + blake3(PIECES[piece]).digest())
    return PossessionProof(PIECES[piece], TREE.proof(piece), len(PIECES), key.sign(signed))


def fault(proof: PossessionProof, piece: int) -> str:
    return possession_fault(proof, spec=SPEC, piece=piece, nonce=NONCE, holder_key=KEY.public_key, genesis_hash=GENESIS)


@pytest.mark.parametrize("piece", range(len(PIECES)))
def test_who_has_the_piece_proves_it(piece: int) -> None:
    """Every piece, the short last one too, is proven by its holder."""
    assert fault(prove(piece), piece) == ""


def test_everything_else_proves_nothing() -> None:
    """Another piece, flipped bytes, another nonce, another signer, a wrong count or path: each is a fault."""
    good = prove(0)
    flipped = bytes([PIECES[0][0] ^ 1]) + PIECES[0][1:]
    for proof in (
        prove(1),
        structs.replace(good, piece_bytes=flipped),
        structs.replace(good, piece_bytes=good.piece_bytes[:-1]),
        prove(0, nonce=b"o" * 16),
        prove(0, key=NodeKey(b"x" * 32)),
        structs.replace(good, count=good.count + 1),
        structs.replace(good, path=good.path[:-1]),
    ):
        assert fault(proof, 0) != ""


def holder_at(endpoint: str) -> Holder:
    """An active holder with this address, as the log would know it."""
    return Holder(
        address=KEY.address,
        public_key=KEY.public_key,
        owner=b"o" * 20,
        beneficiary=b"o" * 20,
        host="",
        name="liar",
        network_address=endpoint,
        deposit_wei="1",
        effective_wei="1",
        suspended=False,
        unbonding=False,
        removed=False,
        status=ACTIVE,
        score=5000,
        disk_free=1,
        disk_used=0,
        slices=1,
        maintenance=False,
        degraded="",
        last_status_ms=0,
        seen_ms=0,
        lost_ms=0,
        repairing=False,
        left=False,
    )


def ask(endpoint: str) -> str:
    own = NodeKey(b"m" * 32)
    return challenge(
        holder_at(endpoint), SPEC, key=own, genesis_hash=GENESIS, tls=client_context(), piece=0, nonce=NONCE
    )


@pytest.mark.parametrize("endpoint", ["", "nowhere", "a..b:80", f"{'x' * 64}.org:80", "127.0.0.1:1"])
def test_a_holder_cannot_be_judged_by_an_address_that_leads_nowhere(endpoint: str) -> None:
    """Whatever a holder writes as its address, the authority that asks goes on."""
    with pytest.raises(NotJudged):
        ask(endpoint)


def test_a_server_that_is_no_node_is_not_judged(tmp_path: Path) -> None:
    """A certificate without a node's key (or no TLS at all) at a holder's address proves nothing and ends nothing."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "liar")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    pem = tmp_path / "liar.pem"
    pem.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as answering:

        def greet() -> None:
            with suppress(OSError):
                context.wrap_socket(listener.accept()[0], server_side=True).close()

        answering.submit(greet)
        with pytest.raises(NotJudged, match="no node"):
            ask(f"127.0.0.1:{listener.getsockname()[1]}")
