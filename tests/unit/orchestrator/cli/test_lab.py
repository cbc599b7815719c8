"""`stratosctl lab` refuses what cannot be a lab before it asks an engine."""

import argparse

import pytest

from orchestrator.cli import exit_codes, lab


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["create", "x", "--machines", "0"],
        ["create", "x", "--machines", "201"],
        ["create", "x", "--memory", "1"],
        ["create", "x", "--memory", "much"],
        ["create", "x", "--cpus", "0"],
        ["create", "x", "--cpus", "nan"],
        ["inventory", "x", "--set", "no value"],
        ["kill", "x"],
    ],
)
def test_bad_options_are_bad_input(words: list[str]) -> None:
    """Each is refused by the parser with exit code 2."""
    with pytest.raises(SystemExit) as ending:
        lab.main(words)
    assert ending.value.code == exit_codes.BAD_INPUT


def test_sizes_have_units() -> None:
    """k, m and g are multiples of 1024."""
    assert lab.memory("512m") == 512 << 20
    assert lab.memory("2G") == 2 << 30


def test_a_variable_is_read_as_yaml_reads_it() -> None:
    """Numbers are numbers, and a list is a list."""
    assert lab.variable("stratos_replicas=2") == ("stratos_replicas", 2)
    assert lab.variable("names=[a, b]") == ("names", ["a", "b"])
    with pytest.raises(argparse.ArgumentTypeError):
        lab.variable("x=[")
