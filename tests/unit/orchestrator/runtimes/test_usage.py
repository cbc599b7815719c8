"""What containers use, from the engine's statistics or from control group files of both versions."""

from orchestrator.runtimes.usage import Usage, usage_from_engine, usage_from_inside

NET = """net:Inter-|   Receive                                                |  Transmit
net:    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0
net:  eth0: 100 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0
net:  eth1: 10 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0
"""
EXPECTED = Usage(memory_bytes=60, memory_limit_bytes=1000, cpu_seconds=1.5, received_bytes=110, sent_bytes=33)


def test_both_versions_of_control_groups_are_read() -> None:
    """Cache that can be dropped is not counted as used."""
    second = "memory.current:100\nmemory.max:1000\nmemory.stat:inactive_file 40\ncpu.stat:usage_usec 1500000\n"
    first = (
        "memory/memory.usage_in_bytes:100\nmemory/memory.limit_in_bytes:1000\nmemory/memory.stat:inactive_file 1\n"
        "memory/memory.stat:total_inactive_file 40\ncpuacct/cpuacct.usage:1500000000\n"
    )
    assert usage_from_inside(second + NET) == EXPECTED
    assert usage_from_inside(first + NET) == EXPECTED


def test_no_limit_is_zero_whatever_the_version_says() -> None:
    """The word max, or a number near the largest."""
    for line in ("memory.max:max\n", "memory/memory.limit_in_bytes:9223372036854771712\n"):
        found = usage_from_inside(f"memory.current:1\ncpu.stat:usage_usec 1\n{line}{NET}")
        assert found is not None
        assert found.memory_limit_bytes == 0


def test_statistics_of_the_engine_come_first() -> None:
    """The same figures in its words."""
    answer = {
        "memory_stats": {"usage": 100, "limit": 1000, "stats": {"total_inactive_file": 40}},
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
        "networks": {"eth0": {"rx_bytes": 100, "tx_bytes": 30}, "eth1": {"rx_bytes": 10, "tx_bytes": 3}},
    }
    assert usage_from_engine(answer) == EXPECTED


def test_no_figures_are_none_and_not_zero() -> None:
    """An engine that answers with nothing, a container without control group files."""
    assert usage_from_engine({"memory_stats": {}, "cpu_stats": {"cpu_usage": {"total_usage": 0}}}) is None
    assert usage_from_inside(NET) is None
