"""The files of a lab."""

import stat
from pathlib import Path

import pytest

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.lab import folder, records

LAB = records.new_lab("tiny", machines=2, memory_bytes=1 << 30, cpus=0.5, taken=())


@pytest.fixture
def made(tmp_path: Path) -> folder.LabFolder:
    """The folder of a lab that was saved once."""
    place = folder.LabFolder("tiny", root=tmp_path)
    place.save(LAB)
    return place


def test_keys_are_made_once_and_are_secret(made: folder.LabFolder) -> None:
    """Saving again, also with more machines, keeps every key; all of them are for the owner alone."""
    secrets = [made.key_file, *sorted((made.path / "host_keys").iterdir())]
    assert [stat.S_IMODE(file.stat().st_mode) for file in secrets] == [0o600] * 3
    before = {file: file.read_bytes() for file in secrets}
    made.save(records.grown(LAB, 3))
    assert {file: file.read_bytes() for file in secrets} == before
    assert made.lab() == records.grown(LAB, 3)
    assert made.known_hosts.read_text().count("\n") == 3


def test_the_known_key_is_the_one_the_machine_gets(made: folder.LabFolder) -> None:
    """known_hosts holds the public half of the host key that is put into the machine."""
    from orchestrator.lab.keys import public_line

    assert made.known_hosts.read_text().startswith(f"10.213.0.11 {public_line(made.host_key('machine1'))}\n")


def test_an_unknown_lab_is_refused_with_the_known_ones(made: folder.LabFolder) -> None:
    """The sentence lists what there is and says how to make one."""
    with pytest.raises(BadInput, match=r"no lab other \(there is tiny\)"):
        folder.LabFolder("other", root=made.path.parent).need_lab()


def test_a_torn_record_is_an_error_that_says_how_to_get_rid_of_it(made: folder.LabFolder) -> None:
    """It is never taken for no lab, whose machines would then be forgotten."""
    made.lab_file.write_text("{")
    with pytest.raises(EnvironmentFault, match="lab destroy tiny"):
        made.lab()
