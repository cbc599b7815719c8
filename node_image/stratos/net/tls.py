"""TLS 1.3 contexts. A node's certificate is self-signed by its ed25519 identity, so the certificate *is* the identity.

There is no CA: the dialling side compares the key in the certificate with the key it expects (TLS has already proved
that the server holds it). Python's ssl cannot ask for a client certificate without a CA to check it against, so the
caller proves itself with a signed `Hello` bound to the server's nonce and key (`stratos.wire.rpc`). The key goes to
OpenSSL through a memory file, never through the disk.
"""

import os
import ssl

from stratos.crypto.der import CertificateError, certificate_public_key
from stratos.crypto.keys import NodeKey
from stratos.crypto.tls import tls_identity
from stratos.net.peers import PeerUnreachable


def server_context(key: NodeKey) -> ssl.SSLContext:
    """A context for listening as the node with this key."""
    identity = tls_identity(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No session tickets: every connection says its own hello, so a resumed session would save little and cost two
    # more records per handshake.
    context.num_tickets = 0
    descriptor = os.memfd_create("stratos-tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, identity.key_pem + identity.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def client_context() -> ssl.SSLContext:
    """A context for dialling: TLS 1.3, no CA; the caller must compare `server_key` with the key it expects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_key(ssl_object: ssl.SSLSocket | ssl.SSLObject) -> bytes:
    """The node key that the server of this TLS connection has proved; raises PeerUnreachable when it is no node."""
    certificate = ssl_object.getpeercert(binary_form=True)
    if not isinstance(certificate, bytes):
        raise PeerUnreachable("the server showed no certificate; is this a stratos node's p2p port?")
    try:
        return certificate_public_key(certificate)
    except CertificateError as error:
        raise PeerUnreachable(str(error)) from error
