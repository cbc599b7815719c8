"""The lock check: names, ranges, hashes, and the same versions in the image as on a laptop."""

from pathlib import Path

import pytest

from orchestrator.cli import image as image_command
from orchestrator.errors import BadInput
from orchestrator.image.lock import for_environment, problems_between, problems_of_lock, read_lock

A, B = "a" * 64, "b" * 64


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_committed_locks_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """What CI runs: the node's lock is that of its requirements and a part of the tool's lock."""
    assert image_command.main(["check"]) == 0
    assert "each with its hashes" in capsys.readouterr().out


def test_entries_carry_marker_and_all_hashes(tmp_path: Path) -> None:
    """An entry spans lines; comments between belong to nobody."""
    lock = write(
        tmp_path,
        "x.lock",
        f"one_x==1.0 ; python_version < '3.12' \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n    # via y\ntwo==2\n",
    )
    one, two = read_lock(lock)
    assert (one.name, one.version, one.hashes, two.hashes) == ("one-x", "1.0", (A, B), ())
    assert "python_version" in one.marker


def test_markers_are_those_of_the_base_not_of_this_python(tmp_path: Path) -> None:
    """A package for older Pythons is staged for an older base, whatever runs the tool."""
    lock = write(tmp_path, "x.lock", f"old==1 ; python_full_version < '3.12' \\\n    --hash=sha256:{A}\n")
    entries = read_lock(lock)
    assert for_environment(entries, {"python_full_version": "3.11.2"}) == entries
    assert for_environment(entries, {"python_full_version": "3.12.1"}) == ()


@pytest.mark.parametrize(
    ("wanted", "locked", "words"),
    [
        ("one>=2,<3\n", f"one==1.9 \\\n    --hash=sha256:{A}\n", "asks for"),
        ("one\ntwo\n", f"one==1 \\\n    --hash=sha256:{A}\n", "lacks two"),
        ("one\n", "one==1\n", "has no hash"),
    ],
)
def test_each_disagreement_is_one_sentence(tmp_path: Path, wanted: str, locked: str, words: str) -> None:
    """Out of range, missing, unhashed."""
    problems = problems_of_lock(write(tmp_path, "r.in", wanted), write(tmp_path, "r.lock", locked))
    assert len(problems) == 1
    assert words in problems[0]


def test_a_line_that_pins_nothing_is_refused_with_its_number(tmp_path: Path) -> None:
    """A range in a lock file is no lock."""
    with pytest.raises(BadInput, match="line 2 is not NAME==VERSION"):
        read_lock(write(tmp_path, "x.lock", "# made by hand\none>=1\n"))


def test_the_part_must_be_in_the_whole(tmp_path: Path) -> None:
    """The image with another version than the laptop is a problem, and so is another file of the same version."""
    whole = write(tmp_path, "whole.lock", f"one==1 \\\n    --hash=sha256:{A}\n")
    for text in (f"one==2 \\\n    --hash=sha256:{A}\n", f"one==1 \\\n    --hash=sha256:{B}\n"):
        assert len(problems_between(write(tmp_path, "part.lock", text), whole)) == 1
