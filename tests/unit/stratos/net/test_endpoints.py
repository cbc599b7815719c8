"""What a register says is dialled only when a peer can be there."""

import pytest

from stratos.net.endpoints import usable_endpoint


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("10.0.0.7:26656", ("10.0.0.7", 26656)),
        ("[2001:4860::1]:26656", ("2001:4860::1", 26656)),
        ("node.example.org:1", ("node.example.org", 1)),
    ],
)
def test_addresses_of_peers_are_dialled(endpoint: str, found: tuple[str, int]) -> None:
    """Private and public addresses and names are usable."""
    assert usable_endpoint(endpoint, own_host="10.0.0.1") == found


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "nowhere",
        "10.0.0.7:0",
        "10.0.0.7:70000",
        "0.0.0.0:1",
        "[::]:1",
        "224.0.0.1:1",
        "169.254.169.254:80",
        "255.255.255.255:1",
        "127.0.0.1:22",
        "127.1:22",
        "2130706433:22",
        "localhost:22",
        "a.localhost.:22",
        "[::1]:22",
        "[::ffff:127.0.0.1]:22",
        "x" * 300 + ":1",
    ],
)
def test_addresses_that_no_peer_has_are_not_dialled(endpoint: str) -> None:
    """Loopback, link-local, multicast and malformed endpoints of a register are never knocked at."""
    assert usable_endpoint(endpoint, own_host="10.0.0.1") is None


def test_a_testnet_on_one_machine_uses_loopback() -> None:
    """A node that advertises loopback itself has its peers there."""
    assert usable_endpoint("127.0.0.1:31000", own_host="127.0.0.1") == ("127.0.0.1", 31000)
