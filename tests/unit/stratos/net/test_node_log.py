"""The node's log: JSON lines, bounded, and stderr follows a rotation."""

import json
import os
import subprocess
import sys
from pathlib import Path

from stratos.net.node_log import LogFile


def test_the_log_is_bounded_by_two_files(tmp_path: Path) -> None:
    """node.log and node.log.1 together never hold more than twice the bound, and the newest line is in node.log."""
    file = LogFile(tmp_path / "node.log", max_bytes=1_000)
    for number in range(500):
        file.write(b"%04d" % number + b"x" * 20 + b"\n")
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 1_000
    assert (tmp_path / "node.log").read_bytes().splitlines()[-1].startswith(b"0499")


def test_lines_are_json_with_time_level_and_node_and_stderr_follows(tmp_path: Path) -> None:
    """A process whose stderr is the log finds it pointing at the new file after a rotation."""
    log = tmp_path / "node.log"
    program = (
        "import structlog, sys, os\n"
        "from pathlib import Path\n"
        "from stratos.net.node_log import configure_log\n"
        f"configure_log(Path({str(log)!r}), level='info', max_bytes=4_000, node='v7')\n"
        "log = structlog.get_logger('x')\n"
        "log.debug('hidden')\n"
        "for number in range(60): log.info('counted', number=number, raw=b'\\x00')\n"
        "print('last words', file=sys.stderr)\n"
    )
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    done = subprocess.run([sys.executable, "-c", program], stdout=descriptor, stderr=descriptor, timeout=300)
    os.close(descriptor)
    assert done.returncode == 0
    lines = log.read_text().splitlines()
    assert lines[-1] == "last words"
    record = json.loads(lines[-2])
    assert (record["node"], record["level"], record["event"], record["number"]) == ("v7", "info", "counted", 59)
    assert (tmp_path / "node.log.1").exists()


def test_without_a_file_the_log_goes_to_stdout_and_survives_its_reader(tmp_path: Path) -> None:
    """In a container the engine keeps the lines; a reader that left costs lines, not the node."""
    program = (
        "import structlog, os\n"
        "from stratos.net.node_log import configure_log\n"
        "configure_log(None, level='info', max_bytes=4_000, node='v7')\n"
        "log = structlog.get_logger('x')\n"
        "log.info('first')\n"
        "os.close(1)\n"
        "log.info('lost')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert (json.loads(line)["node"], json.loads(line)["event"]) == ("v7", "first")
    assert list(tmp_path.iterdir()) == []
