"""What the options of `ticket` and `join` understand, and how they refuse the rest."""

from __future__ import annotations

import argparse

import pytest

from orchestrator.cli import join, main, ticket


def test_how_long_a_ticket_lasts() -> None:
    """A number with a unit, from seconds to weeks."""
    assert [ticket.lasting(text) for text in ("90m", "12h", "7d", "2w", "60s")] == [
        5_400,
        43_200,
        604_800,
        1_209_600,
        60,
    ]
    for junk in ("", "7", "d", "0d", "-1d", "1.5h", "7 d", "9" * 20 + "d"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not how long"):
            ticket.lasting(junk)


def test_keys_urls_and_grants() -> None:
    """Each in its one form."""
    assert ticket.coordinator_key("ab" * 32) == bytes([0xAB]) * 32
    assert (ticket.grant("0"), ticket.grant("2.5")) == ("0", str(25 * 10**17))
    assert ticket.public_url("https://example.org/net") == "https://example.org/net"
    for convert, junk in (
        (ticket.coordinator_key, "AB" * 32),
        (ticket.public_url, "ftp://x"),
        (ticket.public_url, "x y"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match="is not"):
            convert(junk)


@pytest.mark.parametrize("command", ["ticket", "join", "publish"])
def test_help_is_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With examples, without a testnet."""
    with pytest.raises(SystemExit, match="0"):
        main.main([command, "--help"])
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"), [("--name", "Mine"), ("--address", "a b"), ("--disk", "much"), ("--coordinator-key", "0")]
)
def test_wrong_options_are_one_sentence(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, naming option and value."""
    with pytest.raises(SystemExit, match="2"):
        join.main(["-", option, value])
    assert f"argument {option}: {value!r} is not" in capsys.readouterr().err
