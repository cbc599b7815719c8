"""Just enough DER: reads the ed25519 key out of an X.509 certificate, strictly, and writes the elements of one.

A client needs one thing from a server's certificate: the key to compare with the node it meant to reach. TLS 1.3 itself proves
that the server holds that key, and names, dates and issuers mean nothing here, so the walk goes straight to
SubjectPublicKeyInfo and refuses whatever is not exactly an ed25519 key. Starting a PKI library for this would cost
a short-lived command more than its whole handshake. Which elements make a node's certificate is `tls.py`'s to say.
"""

from stratos.crypto.errors import CryptoError

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31
DNS_NAME = 0x82
EXPLICIT_0 = 0xA0
EXPLICIT_3 = 0xA3
ED25519_ALGORITHM = bytes.fromhex("06032b6570")
_MAX_CERTIFICATE_BYTES = 16 * 1024


class CertificateError(CryptoError):
    """A certificate is not one that a node of this network shows."""


def certificate_public_key(der: bytes) -> bytes:
    """The 32-byte ed25519 public key of a DER certificate; raises CertificateError for anything else."""
    if len(der) > _MAX_CERTIFICATE_BYTES:
        raise CertificateError(
            f"a certificate of {len(der)} bytes is over the limit of {_MAX_CERTIFICATE_BYTES}; the server is no node"
        )
    certificate, rest = _split(der, SEQUENCE)
    if rest:
        raise CertificateError("bytes follow the certificate; the server is no node of this network")
    signed, _ = _split(certificate, SEQUENCE)
    if signed[:1] == bytes((EXPLICIT_0,)):
        _, signed = _split(signed, EXPLICIT_0)
    # serial number, then signature algorithm, issuer, validity and subject
    for tag in (INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE):
        _, signed = _split(signed, tag)
    key_info, _ = _split(signed, SEQUENCE)
    algorithm, bits = _split(key_info, SEQUENCE)
    key, rest = _split(bits, BIT_STRING)
    if algorithm != ED25519_ALGORITHM or rest or len(key) != 33 or key[0] != 0:
        raise CertificateError("the certificate's key is not ed25519; the server is no node of this network")
    return key[1:]


def element(tag: int, content: bytes) -> bytes:
    """A DER element: tag, shortest length, content (under 64 KiB)."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    if length < 0x100:
        return bytes((tag, 0x81, length)) + content
    return bytes((tag, 0x82)) + length.to_bytes(2, "big") + content


def unsigned_integer(value: int) -> bytes:
    """A DER INTEGER that is not negative, in its fewest bytes."""
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _split(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content, what follows) of the DER element at the start of `data`, which must carry `tag`."""
    if len(data) < 2 or data[0] != tag:
        raise CertificateError("the certificate is not X.509 in DER; the server is no node of this network")
    length, start = data[1], 2
    if length >= 0x80:
        octets = length & 0x7F
        start += octets
        length = int.from_bytes(data[2:start], "big")
        if not 1 <= octets <= 2 or length < 0x80 or (octets == 2 and length < 0x100):
            raise CertificateError(
                "the certificate has a length that DER does not allow; the server is no node of this network"
            )
    if start + length > len(data):
        raise CertificateError("the certificate is cut short; the server is no node of this network")
    return data[start : start + length], data[start + length :]
