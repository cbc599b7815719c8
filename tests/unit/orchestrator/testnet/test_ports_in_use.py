"""What the machine says about ports."""

import socket

from orchestrator.testnet.ports_in_use import PortClaims, port_is_free


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_port_somebody_listens_on_is_not_free() -> None:
    """A listener makes its port busy, and unclaimable."""
    with socket.create_server(("127.0.0.1", 0)) as listener, PortClaims() as claims:
        port = listener.getsockname()[1]
        assert not port_is_free(port)
        assert not claims.claim(port)


def test_a_claimed_port_is_refused_to_everybody_else_until_it_is_given_back() -> None:
    """Two orchestrators that plan at the same moment never choose the same port."""
    port = free_port()
    with PortClaims() as others:
        with PortClaims() as ours:
            assert ours.claim(port) and ours.claim(port)
            assert not others.claim(port)
        assert others.claim(port)
