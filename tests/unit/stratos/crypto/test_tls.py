"""A TLS identity is its key: the same bytes every time, read back strictly, and good for a real handshake."""

import datetime
import hashlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.crypto.der import (
    BIT_STRING,
    OCTET_STRING,
    CertificateError,
    certificate_public_key,
    element,
    unsigned_integer,
)
from stratos.crypto.keys import NodeKey
from stratos.crypto.tls import tls_identity

seeds = st.binary(min_size=32, max_size=32)


def der_of(key: NodeKey) -> bytes:
    """The DER certificate of `key`."""
    return ssl.PEM_cert_to_DER_cert(tls_identity(key).certificate_pem.decode())


@settings(max_examples=30)
@given(seeds)
def test_certificate_carries_the_key(seed: bytes) -> None:
    """Our reader and a PKI library find the node's key, the signature is good, and nothing varies."""
    key = NodeKey(seed)
    der = der_of(key)
    assert der == der_of(NodeKey(seed))
    assert certificate_public_key(der) == key.public_key
    certificate = x509.load_der_x509_certificate(der)
    public_key = certificate.public_key()
    assert isinstance(public_key, Ed25519PublicKey)
    assert public_key.public_bytes_raw() == key.public_key
    certificate.verify_directly_issued_by(certificate)


def built_by_a_library(key: NodeKey) -> tuple[bytes, bytes]:
    """PEM certificate and PEM key of `key`, made by a PKI library."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key.text)])
    serial = int.from_bytes(hashlib.sha256(b"stratos certificate" + key.public_key).digest()[:16], "big") | 1
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(key.text)]), critical=False)
        .sign(private, algorithm=None)
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), private.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@settings(max_examples=300)
@given(seeds)
def test_the_bytes_are_those_of_a_pki_library(seed: bytes) -> None:
    """Certificate and key are byte for byte what a PKI library builds from the same fields."""
    key = NodeKey(seed)
    identity = tls_identity(key)
    assert (identity.certificate_pem, identity.key_pem) == built_by_a_library(key)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (255, "020200ff"),
        (256, "02020100"),
        ((1 << 127) - 1, "02107f" + "ff" * 15),
        (1 << 127, "02110080" + "00" * 15),
    ],
)
def test_integers_are_shortest_and_never_negative(value: int, written: str) -> None:
    """A number is written in its fewest bytes, with a zero in front when its first bit is set."""
    assert unsigned_integer(value).hex() == written


@pytest.mark.parametrize(
    ("length", "head"), [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100")]
)
def test_lengths_are_shortest(length: int, head: str) -> None:
    """The length of an element takes the short form below 128 and else the fewest bytes."""
    assert element(OCTET_STRING, b"x" * length) == bytes.fromhex(head) + b"x" * length
    assert element(BIT_STRING, b"")[0] == BIT_STRING


def test_the_private_key_is_the_nodes() -> None:
    """The PEM key is the node's seed, and a repr shows nothing of it."""
    key = NodeKey(bytes(range(32)))
    identity = tls_identity(key)
    private = serialization.load_pem_private_key(identity.key_pem, None)
    assert private.private_bytes_raw() == key.seed  # type: ignore[union-attr]
    assert identity.key_pem.decode().splitlines()[1] not in repr(identity)


@given(seeds, st.data())
def test_damaged_certificates_give_a_key_or_a_typed_error(seed: bytes, data: st.DataObject) -> None:
    """Cutting, lengthening or changing a certificate never raises anything but CertificateError."""
    der = der_of(NodeKey(b"\x07" * 32))
    kind = data.draw(st.sampled_from(["cut", "longer", "changed", "noise"]))
    if kind == "cut":
        with pytest.raises(CertificateError):
            certificate_public_key(der[: data.draw(st.integers(0, len(der) - 1))])
    elif kind == "longer":
        with pytest.raises(CertificateError):
            certificate_public_key(der + seed)
    else:
        position = data.draw(st.integers(0, len(der) - 1))
        damaged = bytearray(der if kind == "changed" else seed * 4)
        damaged[position % len(damaged)] = data.draw(st.integers(0, 255))
        try:
            assert len(certificate_public_key(bytes(damaged))) == 32
        except CertificateError:
            pass


def test_a_key_hidden_in_a_name_is_not_read() -> None:
    """The reader walks the structure; a key planted in the serial number or the name does not fool it."""
    key, planted = NodeKey(b"\x01" * 32), NodeKey(b"\x02" * 32)
    marker = bytes.fromhex("302a300506032b6570032100") + planted.public_key
    der = der_of(key)
    at = der.index(key.text.encode())
    fooled = der[:at] + marker[: len(key.text)] + der[at + len(key.text) :]
    assert certificate_public_key(fooled) == key.public_key


def test_other_key_types_are_refused() -> None:
    """A certificate with an elliptic-curve key of another kind is no node's."""
    der = der_of(NodeKey(b"\x01" * 32))
    x25519 = der.replace(bytes.fromhex("06032b6570032100"), bytes.fromhex("06032b656e032100"))
    assert x25519 != der
    with pytest.raises(CertificateError, match="not ed25519"):
        certificate_public_key(x25519)


def test_a_real_handshake_shows_the_key(tmp_path: Path) -> None:
    """TLS 1.3 works with these certificates and the client reads the server's key from the wire."""
    key = NodeKey.generate()
    identity = tls_identity(key)
    (tmp_path / "cert.pem").write_bytes(identity.certificate_pem)
    (tmp_path / "key.pem").write_bytes(identity.key_pem)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    server_context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    server_end, client_end = socket.socketpair()
    server_end.settimeout(120)
    client_end.settimeout(120)

    def serve() -> None:
        with server_context.wrap_socket(server_end, server_side=True) as server:
            server.sendall(server.recv(4))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(client_end) as client:
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"
            assert client.version() == "TLSv1.3"
            der = client.getpeercert(binary_form=True)
            assert der is not None
            assert certificate_public_key(der) == key.public_key
    finally:
        thread.join(120)
