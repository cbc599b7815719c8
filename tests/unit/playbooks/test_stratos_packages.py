"""Packages are installed so that exactly what came with us can be taken away again."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "playbooks" / "library" / "stratos_packages.py"


def module() -> ModuleType:
    """The Ansible module as a Python module."""
    spec = importlib.util.spec_from_file_location("stratos_packages", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


tool = module()


class Machine:
    """A machine whose apt knows `offers` (package -> its dependencies)."""

    def __init__(self, *, installed: Sequence[str] = (), offers: dict[str, list[str]] | None = None) -> None:
        self.installed = set(installed)
        self.offers = offers or {}
        self.calls: list[str] = []
        self.broken = False

    def run(self, command: list[str]) -> tuple[int, str, str]:
        """What run_command would say."""
        self.calls.append(" ".join(command))
        names = [word for word in command[1:] if word in self.offers or word in self.installed]
        if command[0] == "dpkg-query":
            return 0, "".join(f"{name} installed\n" for name in command if name in self.installed), ""
        if command[0] == "apt-cache":
            known = command[2:]
            return 0, "".join(f"{n}:\n  Candidate: {'1' if n in self.offers else '(none)'}\n" for n in known), ""
        if "--simulate" in command:
            brought = {one for name in names for one in (name, *self.offers[name])} - self.installed
            return 0, "".join(f"Inst {name} (1 Debian)\n" for name in sorted(brought)), ""
        if "install" in command:
            if self.broken:
                return 100, "", "E: the mirror went away"
            self.installed |= {one for name in names for one in (name, *self.offers[name])}
        if "purge" in command:
            self.installed -= set(names)
        return 0, "", ""


def present(
    machine: Machine, record: Path, *names: str, check: bool = False, optional: bool = False
) -> dict[str, object]:
    """Run the module's main part."""
    packages = tool.Packages(machine.run)
    result: dict[str, object] = tool.present(packages, list(names), record, optional=optional, check=check)
    return result


def test_dependencies_that_came_along_are_recorded_and_purged(tmp_path: Path) -> None:
    """What was there before stays, what came with us goes, dependencies too."""
    machine = Machine(installed=["libc"], offers={"chrony": ["libnettle", "libc"]})
    record = tmp_path / "installed" / "time.json"
    assert present(machine, record, "chrony")["installed"] == ["chrony", "libnettle"]
    assert tool.absent(tool.Packages(machine.run), record, check=False)["removed"] == ["chrony", "libnettle"]
    assert machine.installed == {"libc"}
    assert not record.parent.exists()


def test_a_second_run_asks_only_dpkg(tmp_path: Path) -> None:
    """Nothing is missing: one call, no change."""
    machine = Machine(installed=["chrony"])
    assert present(machine, tmp_path / "time.json", "chrony")["changed"] is False
    assert len(machine.calls) == 1


def test_an_interrupted_install_is_on_record(tmp_path: Path) -> None:
    """The record is written before anything is installed, so what a broken install left can be taken away."""
    machine = Machine(offers={"chrony": []})
    machine.broken = True
    with pytest.raises(OSError, match="the mirror went away"):
        present(machine, tmp_path / "time.json", "chrony")
    assert json.loads((tmp_path / "time.json").read_text()) == {"packages": ["chrony"]}


def test_what_no_source_offers_is_an_error_that_names_it_or_an_answer(tmp_path: Path) -> None:
    """`optional` turns the error into an answer."""
    machine = Machine()
    with pytest.raises(OSError, match="no package source offers grafana"):
        present(machine, tmp_path / "g.json", "grafana")
    assert present(machine, tmp_path / "g.json", "grafana", optional=True)["unavailable"] == ["grafana"]


def test_check_mode_changes_nothing_and_says_what_would(tmp_path: Path) -> None:
    """No sources are read, no record is written, nothing is installed."""
    machine = Machine(offers={"chrony": ["libnettle"]})
    result = present(machine, tmp_path / "time.json", "chrony", check=True)
    assert (result["changed"], result["installed"]) == (True, ["chrony", "libnettle"])
    assert machine.installed == set()
    assert not (tmp_path / "time.json").exists()


def test_nothing_on_record_is_nothing_to_purge(tmp_path: Path) -> None:
    """A machine where everything was adopted keeps everything."""
    machine = Machine(installed=["chrony"])
    assert tool.absent(tool.Packages(machine.run), tmp_path / "time.json", check=False)["changed"] is False
    assert machine.installed == {"chrony"}
