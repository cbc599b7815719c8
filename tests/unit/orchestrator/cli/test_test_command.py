"""`stratosctl test` adds a default selection and workers only where the caller did not choose."""

import pytest

from orchestrator.cli.test_command import NOT_BY_DEFAULT, pytest_arguments


def test_default_selection_leaves_out_what_needs_more() -> None:
    """Every group that needs more than this machine's processes is left out, and tests run in parallel."""
    arguments = pytest_arguments([], everything=False)
    for marker in NOT_BY_DEFAULT:
        assert f"not {marker}" in arguments[1]
    assert "-n" in arguments


def test_all_selects_everything() -> None:
    """--all adds no selection."""
    assert "-m" not in pytest_arguments([], everything=True)


@pytest.mark.parametrize(
    "chosen", [["-m", "slow"], ["-mslow"], ["-n0"], ["-n", "0"], ["--pdb"], ["tests/unit", "-k", "x"]]
)
def test_the_callers_choice_is_passed_on(chosen: list[str]) -> None:
    """Arguments come last and unchanged; a chosen selection or worker count is not overridden."""
    arguments = pytest_arguments(chosen, everything=False)
    added, passed_on = arguments[: -len(chosen)], arguments[-len(chosen) :]
    assert passed_on == chosen
    assert ("-m" in added) != chosen[0].startswith("-m")
    assert ("-n" in added) != chosen[0].startswith(("-n", "--pdb"))


def test_groups_are_registered(pytestconfig: pytest.Config) -> None:
    """Each left-out group is a marker that pytest knows."""
    registered = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(NOT_BY_DEFAULT) <= registered
