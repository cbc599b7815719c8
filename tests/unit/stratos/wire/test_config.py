"""Endpoints: what other nodes claim as their address can be dialled, or is refused as one."""

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.wire.config import ConfigError, split_endpoint


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "[::1]:65535", "node-1.example.org:0", "node.example.org.:80"])
def test_hosts_and_addresses_are_taken(endpoint: str) -> None:
    """A name, an IPv4 or a bracketed IPv6 address before a port."""
    host, port = split_endpoint(endpoint)
    assert endpoint.replace("[", "").replace("]", "") == f"{host}:{port}"


@pytest.mark.parametrize(
    "endpoint", ["", "a", ":80", "a:", "a:65536", "a:-1", "a..b:80", ".:80", f"{'x' * 64}.org:80", "\0:1"]
)
def test_what_cannot_be_dialled_is_refused(endpoint: str) -> None:
    """A sentence, before any socket sees it."""
    with pytest.raises(ConfigError):
        split_endpoint(endpoint)


@given(st.text(max_size=80), st.integers(0, 65_535))
def test_a_claimed_address_never_raises_anything_but_os_errors_when_dialled(host: str, port: int) -> None:
    """Whatever stands before the port, whoever dials it has to expect OSError alone."""
    with suppress(ConfigError, OSError):
        socket.getaddrinfo(*split_endpoint(f"{host}:{port}"), flags=socket.AI_NUMERICHOST)
