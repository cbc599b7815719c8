"""A TLS identity is its key: the same bytes every time, read back strictly, and good for a real handshake."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.crypto.der import CertificateError, certificate_public_key
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
    server_end.settimeout(20)
    client_end.settimeout(20)

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
        thread.join(20)
