"""Self-signed ed25519 certificates: a node's TLS identity is its node identity.

Nobody checks names, dates or issuers: the other end compares the certificate's key with the key it expects, and TLS 1.3 proves
possession. So the certificate is a pure function of the key (fixed dates, serial number from the key) and need
not be stored: the same node shows the same bytes after every restart.
"""

import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from stratos.crypto.der import CertificateError, certificate_public_key
from stratos.crypto.keys import NodeKey

__all__ = ["CertificateError", "TlsIdentity", "certificate_public_key", "tls_identity"]

_NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # RFC 5280: no expiry


@dataclass(frozen=True, slots=True, repr=False)
class TlsIdentity:
    """A certificate and its private key, both PEM, as `ssl` wants them. Never shown in a repr."""

    certificate_pem: bytes
    key_pem: bytes


def tls_identity(key: NodeKey) -> TlsIdentity:
    """The certificate and key of a node or session identity; equal keys give equal bytes."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key.text)])
    serial = int.from_bytes(hashlib.sha256(b"stratos certificate" + key.public_key).digest()[:16], "big") | 1
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(serial)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(key.text)]), critical=False)
        .sign(private, algorithm=None)
    )
    return TlsIdentity(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
