"""The bundle of a machine: the same bytes for the same plan, closed to others, true to its manifest."""

import stat
import tarfile

import pytest

from orchestrator.errors import BadInput
from orchestrator.runtimes.bundles import Manifest, NodePorts, node_entry, read_manifest, write_bundle

FILES = {"config.json": b"{}", "node.key": b"secret"}
UNIT = "[Service]\n"


def entry(**changes):
    given = {
        "testnet": "fleet",
        "name": "meta-1",
        "role": "meta",
        "files": FILES,
        "unit": UNIT,
        "image": "stratos-node:1",
        "image_id": "sha256:aa",
        "ports": NodePorts(p2p=8888, http=8889),
        **changes,
    }
    return node_entry(**given)


def manifest(*nodes):
    return Manifest(testnet="fleet", image="stratos-node:1", image_id="sha256:aa", base="b", nodes=nodes)


def written(path, node=None):
    node = node or entry()
    return write_bundle(path, manifest(node), {"meta-1": FILES}, {node.unit: UNIT}, firewall="table inet stratos {}\n")


def test_the_same_plan_gives_the_same_bytes(tmp_path):
    """Neither time nor order of files is in a bundle."""
    first = written(tmp_path / "a.tar")
    turned = dict(reversed(FILES.items()))
    node = entry(files=turned)
    second = write_bundle(
        tmp_path / "b.tar", manifest(node), {"meta-1": turned}, {node.unit: UNIT}, firewall="table inet stratos {}\n"
    )
    assert first == second
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_bundle_is_closed_to_others(tmp_path):
    """The tar and each of its entries have mode 0600, because keys are in it."""
    written(tmp_path / "a.tar")
    assert stat.S_IMODE((tmp_path / "a.tar").stat().st_mode) == 0o600
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == [
            "firewall.nft",
            "manifest.json",
            "nodes/meta-1/config.json",
            "nodes/meta-1/node.key",
            "units/stratos-fleet-meta-1.service",
        ]
        assert {member.mode for member in tar.getmembers()} == {0o600}


def test_the_manifest_says_digests_and_no_contents(tmp_path):
    """It stays on the machine for everybody to read."""
    written(tmp_path / "a.tar")
    read = read_manifest(tmp_path / "a.tar")
    assert read == manifest(entry())
    assert "secret" not in str(read)


@pytest.mark.parametrize("change", [{"files": {}}, {"unit": "[Unit]\n"}, {"image_id": "sha256:bb"}])
def test_a_digest_covers_files_unit_and_image(change):
    """Each of them alone asks for a restart."""
    assert entry(**change).digest != entry().digest


def test_a_limit_that_is_not_in_the_unit_asks_for_no_restart():
    """Bandwidth is shaped outside the container."""
    assert entry(bandwidth_mbit=100).digest == entry().digest


def test_files_that_differ_from_the_manifest_are_refused(tmp_path):
    """A wrong bundle is found where it is made."""
    with pytest.raises(BadInput, match="meta-1 differs"):
        written(tmp_path / "a.tar", entry(files={"config.json": b"other"}))
    assert not list(tmp_path.iterdir())


def test_something_else_is_not_a_bundle(tmp_path):
    """Refused with what to do."""
    (tmp_path / "x.tar").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="render it again"):
        read_manifest(tmp_path / "x.tar")
