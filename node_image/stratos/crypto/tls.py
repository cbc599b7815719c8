"""Self-signed ed25519 certificates: a node's TLS identity is its node identity.

Nobody checks names, dates or issuers: the other end compares the certificate's key with the key it expects, and TLS 1.3 proves
possession. So the certificate is a pure function of the key (fixed dates, serial number from the key) and need
not be stored: the same node shows the same bytes after every restart. With everything fixed but key, name and serial number it
is written here field by field (RFC 5280, RFC 8410), because importing a PKI library costs more than the rest of a
node's start; the tests hold it against such a library byte for byte.
"""

import base64
import hashlib
from dataclasses import dataclass

from stratos.crypto.der import (
    BIT_STRING,
    BOOLEAN,
    DNS_NAME,
    ED25519_ALGORITHM,
    EXPLICIT_0,
    EXPLICIT_3,
    GENERALIZED_TIME,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    UTC_TIME,
    UTF8_STRING,
    CertificateError,
    certificate_public_key,
    element,
    unsigned_integer,
)
from stratos.crypto.keys import NodeKey

__all__ = ["CertificateError", "TlsIdentity", "certificate_public_key", "tls_identity"]

_NOT_BEFORE = element(UTC_TIME, b"200101000000Z")
_NOT_AFTER = element(GENERALIZED_TIME, b"99991231235959Z")  # RFC 5280: no expiry
_COMMON_NAME = element(OBJECT_IDENTIFIER, bytes.fromhex("550403"))
_BASIC_CONSTRAINTS = element(OBJECT_IDENTIFIER, bytes.fromhex("551d13"))
_ALTERNATIVE_NAME = element(OBJECT_IDENTIFIER, bytes.fromhex("551d11"))
_ALGORITHM = element(SEQUENCE, ED25519_ALGORITHM)
_VERSION_3 = element(EXPLICIT_0, unsigned_integer(2))
_PKCS8_VERSION = unsigned_integer(0)
_PEM_LINE = 64


@dataclass(frozen=True, slots=True, repr=False)
class TlsIdentity:
    """A certificate and its private key, both PEM, as `ssl` wants them. Never shown in a repr."""

    certificate_pem: bytes
    key_pem: bytes


def tls_identity(key: NodeKey) -> TlsIdentity:
    """The certificate and key of a node or session identity; equal keys give equal bytes."""
    signed = _to_be_signed(key)
    certificate = element(SEQUENCE, signed + _ALGORITHM + element(BIT_STRING, b"\0" + key.sign(signed)))
    private = element(SEQUENCE, _PKCS8_VERSION + _ALGORITHM + element(OCTET_STRING, element(OCTET_STRING, key.seed)))
    return TlsIdentity(certificate_pem=_pem("CERTIFICATE", certificate), key_pem=_pem("PRIVATE KEY", private))


def _to_be_signed(key: NodeKey) -> bytes:
    text = key.text.encode("ascii")
    serial = int.from_bytes(hashlib.sha256(b"stratos certificate" + key.public_key).digest()[:16], "big") | 1
    name = element(
        SEQUENCE, element(SET, element(SEQUENCE, _COMMON_NAME + element(UTF8_STRING, text)))
    )  # issuer and subject
    no_authority = element(SEQUENCE, _BASIC_CONSTRAINTS + element(BOOLEAN, b"\xff") + _wrapped(b""))
    other_name = element(SEQUENCE, _ALTERNATIVE_NAME + _wrapped(element(DNS_NAME, text)))
    return element(
        SEQUENCE,
        _VERSION_3
        + unsigned_integer(serial)
        + _ALGORITHM
        + name
        + element(SEQUENCE, _NOT_BEFORE + _NOT_AFTER)
        + name
        + element(SEQUENCE, _ALGORITHM + element(BIT_STRING, b"\0" + key.public_key))
        + element(EXPLICIT_3, element(SEQUENCE, no_authority + other_name)),
    )


def _wrapped(content: bytes) -> bytes:
    """The value of an extension: a sequence inside an octet string."""
    return element(OCTET_STRING, element(SEQUENCE, content))


def _pem(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + _PEM_LINE] for at in range(0, len(text), _PEM_LINE)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
