"""Reads the ed25519 key out of an X.509 certificate: just enough DER, strictly, without the weight of a PKI library.

A client needs one thing from a server's certificate: the key to compare with the node it meant to reach. TLS 1.3 itself proves
that the server holds that key, and names, dates and issuers mean nothing here, so the walk goes straight to
SubjectPublicKeyInfo and refuses whatever is not exactly an ed25519 key. Starting a PKI library for this would cost
a short-lived command more than its whole handshake.
"""

from stratos.crypto.errors import CryptoError

_SEQUENCE = 0x30
_BIT_STRING = 0x03
_INTEGER = 0x02
_EXPLICIT_VERSION = 0xA0
_ED25519_ALGORITHM = bytes.fromhex("06032b6570")
_MAX_CERTIFICATE_BYTES = 16 * 1024


class CertificateError(CryptoError):
    """A certificate is not one that a node of this network shows."""


def certificate_public_key(der: bytes) -> bytes:
    """The 32-byte ed25519 public key of a DER certificate; raises CertificateError for anything else."""
    if len(der) > _MAX_CERTIFICATE_BYTES:
        raise CertificateError(
            f"a certificate of {len(der)} bytes is over the limit of {_MAX_CERTIFICATE_BYTES}; the server is no node"
        )
    certificate, rest = _element(der, _SEQUENCE)
    if rest:
        raise CertificateError("bytes follow the certificate; the server is no node of this network")
    signed, _ = _element(certificate, _SEQUENCE)
    if signed[:1] == bytes((_EXPLICIT_VERSION,)):
        _, signed = _element(signed, _EXPLICIT_VERSION)
    # serial number, then signature algorithm, issuer, validity and subject
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE):
        _, signed = _element(signed, tag)
    key_info, _ = _element(signed, _SEQUENCE)
    algorithm, bits = _element(key_info, _SEQUENCE)
    key, rest = _element(bits, _BIT_STRING)
    if algorithm != _ED25519_ALGORITHM or rest or len(key) != 33 or key[0] != 0:
        raise CertificateError("the certificate's key is not ed25519; the server is no node of this network")
    return key[1:]


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
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
