"""The unit of a node: what it confines, and that its words need no quoting."""

import pytest

from orchestrator.errors import BadInput
from orchestrator.runtimes.units import unit_name, unit_text


def text(**changes):
    given = {
        "testnet": "fleet",
        "node": "meta-1",
        "role": "meta",
        "image": "stratos-node:1.0",
        "image_id": "sha256:" + "a" * 64,
        **changes,
    }
    return unit_text(**given)


def command(unit):
    """The words of ExecStart."""
    joined = unit.replace("\\\n", " ")
    line = next(line for line in joined.splitlines() if line.startswith("ExecStart="))
    return line.removeprefix("ExecStart=").split()


def test_a_container_gets_its_home_and_nothing_else():
    """Without privileges, capabilities or a writable root; one mount, the node's home."""
    words = command(text())
    assert words[:3] == ["docker", "run", "--rm"]
    assert {"--read-only", "no-new-privileges", "10001:10001"} <= set(words)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--volume"] == [
        "/var/lib/stratos/fleet/meta-1:/home/stratos"
    ]
    assert "--privileged" not in words
    assert words[-5:] == ["run", "--home", "/home/stratos", "--log", "stdout"]


def test_limits_stand_in_the_unit_only_when_the_inventory_sets_them():
    """Zero means no limit, and swap never widens a limit of memory."""
    free = command(text())
    assert "--cpus" not in free
    assert "--memory" not in free
    bound = command(text(cpus=1.5, memory_bytes=1 << 30))
    assert bound[bound.index("--cpus") + 1] == "1.5"
    assert bound[bound.index("--memory") + 1] == bound[bound.index("--memory-swap") + 1] == str(1 << 30)


def test_another_image_under_the_same_tag_is_another_unit():
    """The image's id stands in the unit, so that a rebuilt tag asks for a restart."""
    assert text() != text(image_id="sha256:" + "b" * 64)


def test_systemd_gives_a_node_the_time_it_may_take_to_stop():
    """The supervisor's patience is longer than the engine's."""
    unit = text(stop_seconds=50)
    assert "docker stop --time 50 stratos-fleet-meta-1" in unit
    assert "TimeoutStopSec=65" in unit


@pytest.mark.parametrize("name", ["a b", "a%i", "$x", "", '"'])
def test_a_name_that_would_need_quoting_is_refused(name):
    """A unit is no place for spaces, specifiers and variables."""
    with pytest.raises(BadInput, match="cannot stand in a unit"):
        text(node=name)


def test_the_unit_is_named_after_testnet_and_node():
    """One machine may hold nodes of several testnets."""
    assert unit_name("fleet", "meta-1") == "stratos-fleet-meta-1.service"
