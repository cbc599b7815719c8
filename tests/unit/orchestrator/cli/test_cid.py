"""`stratosctl cid` prints the name of any file, or of any of its slices, in one pass and small memory."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cli import cid as command
from orchestrator.cli.main import main
from stratos.crypto.cid import SLICE_BYTES, cid_text, file_cid, multihash, slice_cid


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command prints; it must succeed and print one line."""
    assert main(["cid", *map(str, arguments)]) == 0
    heard = capsys.readouterr()
    assert heard.err == ""
    assert heard.out.count("\n") == 1
    return heard.out.strip()


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "v05j1m555fu587j6jih6c1k0uheu1g2o8stakpm0"), (b"hello stratos", "v05j1m52c3o7rd6if0b6u23dcoaajjs77tlmkdco")],
)
def test_published_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, text: str) -> None:
    """The published names come out."""
    (tmp_path / "file").write_bytes(content)
    assert printed(capsys, tmp_path / "file") == text


def test_options_are_part_of_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--tag, --video and --slice give the names of protocol 2."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    hashed = multihash(b"content")
    assert printed(capsys, path, "--tag", "a1b2c3d4") == cid_text(file_cid(hashed, tag="a1b2c3d4"))
    assert printed(capsys, path, "--video") == cid_text(file_cid(hashed, video=True))
    assert printed(capsys, path, "--slice", 1) == cid_text(slice_cid(file_cid(hashed), 1, b"content"))
    tagged = file_cid(hashed, tag="t")
    assert printed(capsys, path, "--tag", "t", "--slice", "1") == cid_text(slice_cid(tagged, 1, b"content"))


def test_slices_of_a_file_over_one_slice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Slice borders are at multiples of 32 MiB; the last slice is shorter."""
    content = bytes(range(256)) * (SLICE_BYTES // 256) + b"tail"
    path = tmp_path / "file"
    path.write_bytes(content)
    named = file_cid(multihash(content))
    assert printed(capsys, path, "--slice", 1) == cid_text(slice_cid(named, 1, content[:SLICE_BYTES]))
    assert printed(capsys, path, "--slice", 2) == cid_text(slice_cid(named, 2, b"tail"))
    assert main(["cid", str(path), "--slice", "3"]) == 2
    assert "2 slices; there is no slice 3" in capsys.readouterr().err


@settings(max_examples=60)
@given(st.binary(max_size=70), st.integers(1, 8), st.integers(1, 9), st.integers(1, 5))
def test_any_slice_and_piece_size(content: bytes, slice_bytes: int, piece_bytes: int, number: int) -> None:
    """However pieces and slices overlap, the slice's own bytes are hashed."""
    part = content[(number - 1) * slice_bytes : number * slice_bytes]
    if not part:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "SLICE_BYTES", slice_bytes)
        patch.setattr(command, "_PIECE_BYTES", piece_bytes)
        found = command._name(io.BytesIO(content), len(content), "x", number=number, tag="", video=False)
    assert found == slice_cid(file_cid(multihash(content)), number, part)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """- names what comes through a pipe."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"hello stratos")))
    assert printed(capsys, "-") == "v05j1m52c3o7rd6if0b6u23dcoaajjs77tlmkdco"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "absent"),
        (["."], "directory"),
        ([__file__, "--tag", "é"], "ASCII"),
        ([__file__, "--slice", "0"], "'0' is not a whole number"),
        ([__file__, "--slice", "x"], "'x' is not a whole number"),
        ([__file__, "--sl", "1"], "--sl"),
        ([], "FILE"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, a folder, a bad tag or number: one line on stderr, nothing on stdout."""
    try:
        code: object = main(["cid", *arguments])
    except SystemExit as ending:
        code = ending.code
    assert code == 2
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.count("\n") == 1
    assert said.lower() in heard.err.lower()


def test_an_empty_file_has_no_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The empty file is its own name and nothing more."""
    (tmp_path / "empty").touch()
    assert main(["cid", str(tmp_path / "empty"), "--slice", "1"]) == 2
    assert "0 slices" in capsys.readouterr().err
