"""Names, addresses and subnets of labs."""

import pytest

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.lab import records

ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
)


def lab(machines: int = 2) -> records.Lab:
    """A small lab."""
    return records.new_lab("tiny", machines=machines, memory_bytes=0, cpus=0.0, taken=())


def test_machines_have_fixed_addresses_in_order() -> None:
    """Numbers in names and addresses go together, so a restarted machine is where it was."""
    assert [(machine.name, machine.address) for machine in lab().machines] == [
        ("machine1", "10.213.0.11"),
        ("machine2", "10.213.0.12"),
    ]


def test_a_lab_takes_the_first_subnet_that_nothing_overlaps() -> None:
    """Networks of the engine and routes of the host are left alone, whatever their size."""
    assert records.free_subnet(["10.213.0.0/23", "10.213.2.128/25", "192.168.0.0/16"]) == "10.213.3.0/24"
    with pytest.raises(EnvironmentFault, match="destroy labs"):
        records.free_subnet(["10.0.0.0/8"])


def test_routes_are_read_without_the_default_route() -> None:
    """The default route overlaps everything and forbids nothing."""
    assert records.host_routes(ROUTES) == ["172.17.0.0/255.255.0.0"]


def test_a_lab_grows_and_never_shrinks() -> None:
    """Machines that are there keep their addresses when more come."""
    grown = records.grown(lab(2), 4)
    assert grown.machines[:2] == lab(2).machines
    assert len(grown.machines) == 4
    with pytest.raises(BadInput, match="lab destroy tiny"):
        records.grown(lab(2), 1)


@pytest.mark.parametrize("name", ["", "Upper", "1st", "a_b", "a/b", "..", "a" * 32])
def test_a_name_that_the_engine_or_a_path_could_misread_is_refused(name: str) -> None:
    """Names become container names, folder names and label values."""
    with pytest.raises(BadInput, match="cannot name a lab"):
        records.check_name(name)


def test_the_largest_lab_fits_its_subnet() -> None:
    """Every machine of the largest lab has an address before the broadcast address."""
    assert lab(records.MOST_MACHINES).machines[-1].address == "10.213.0.210"


def test_an_unknown_machine_is_refused_with_the_known_ones() -> None:
    """The sentence lists what there is."""
    with pytest.raises(BadInput, match="machine1, machine2"):
        lab().machine("machine9")
