"""The module that brings one machine to its bundle: converges, predicts, survives interruption, leaves nothing."""

import base64
import io
import stat
import tarfile

import msgspec
import pytest

from orchestrator.runtimes.bundles import Manifest, NodePorts, node_entry, write_bundle


@pytest.fixture
def bundle_module(playbook_module):
    return playbook_module("stratos_bundle")


class Host:
    """One machine under test: renders bundles for it and runs the module the way the action plugin does."""

    def __init__(self, module, plugin, root, systemd, folder):
        self.module, self.plugin, self.root, self.systemd, self.folder = module, plugin, root, systemd, folder
        self.travelled = []

    def run(self, state="placed", *, nodes=None, removed=(), only=(), check=False, keep_data=False, **changes):
        """`nodes`: files by node name; None means there is no bundle."""
        bundle = manifest = None
        if nodes is not None:
            bundle, manifest = self._render(nodes, removed)
        params = {
            "testnet": "net",
            "bundle": None,
            "state": state,
            "nodes": list(only),
            "keep_data": keep_data,
            "record_base": False,
            "root": str(self.root),
            "manifest": manifest,
            "archive": None,
            **changes,
        }
        result = self._call(params, check)
        if result["needs"] and not check:
            self.travelled = sorted(result["needs"])
            params["archive"] = self.plugin._part_of(bundle, frozenset(result["needs"]), manifest)
            result = self._call(params, check)
        return result

    def _call(self, params, check):
        return self.module.Machine(params, check=check, system=self.systemd).run()

    def _render(self, nodes, removed):
        units = {name: f"# {name}\n" for name in nodes}
        entries = tuple(
            node_entry(
                testnet="net", name=name, role="meta", files=files, unit=units[name], image="i:1", image_id="sha256:a",
                ports=NodePorts(),
            )
            for name, files in nodes.items()
        )  # fmt: skip
        manifest = Manifest(
            testnet="net", image="i:1", image_id="sha256:a", base="base-1", nodes=entries, removed=tuple(removed)
        )
        path = self.folder / "m.tar"
        write_bundle(path, manifest, nodes, {entry.unit: units[entry.name] for entry in entries})
        return path, msgspec.to_builtins(manifest)

    def snapshot(self):
        """Every path of the machine with its kind, mode and content."""
        return {
            str(path.relative_to(self.root)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in self.root.rglob("*")
        }


@pytest.fixture
def host(bundle_module, playbook_plugin, machine_root, systemd, tmp_path):
    return Host(bundle_module, playbook_plugin("action_plugins", "stratos_bundle"), machine_root, systemd, tmp_path)


TWO = {"m-1": {"config.json": b"{}", "node.key": b"secret-1"}, "m-2": {"config.json": b"{}", "node.key": b"secret-2"}}
CHANGED = {**TWO, "m-2": {"config.json": b'{"a":1}', "node.key": b"secret-2"}}


def test_a_second_run_changes_nothing(host):
    """And it needs no file to know."""
    first = host.run("started", nodes=TWO)
    assert first["changed"]
    assert first["running"] == ["m-1", "m-2"]
    host.travelled = []
    before = host.snapshot()
    second = host.run("started", nodes=TWO)
    assert not second["changed"]
    assert second["nodes"] == {}
    assert host.travelled == []
    assert host.snapshot() == before


def test_only_a_node_that_differs_travels_and_is_named(host):
    """One changed file of one node."""
    host.run("started", nodes=TWO)
    changed = host.run("placed", nodes=CHANGED)
    assert host.travelled == ["m-2"]
    assert changed["nodes"] == {"m-2": ["config.json", "digest"]}
    assert changed["outdated"] == ["m-2"]
    assert (host.root / "var/lib/stratos/net/m-2/config.json").read_bytes() == b'{"a":1}'


def test_running_nodes_are_left_alone_until_a_restart_is_asked_for(host):
    """Placed and started touch no running node; restarted takes the outdated ones, and none a second time."""
    host.run("started", nodes=TWO)
    for state in ("placed", "started"):
        host.systemd.calls.clear()
        assert host.run(state, nodes=CHANGED)["outdated"] == ["m-2"]
        assert not [call for call in host.systemd.calls if call[0] in ("start", "restart", "stop")]
    assert host.run("restarted", nodes=CHANGED)["nodes"] == {"m-2": ["restarted"]}
    assert ("restart", "stratos-net-m-2.service") in host.systemd.calls
    assert not host.run("restarted", nodes=CHANGED)["changed"]


def test_check_mode_predicts_and_does_nothing(host):
    """The same nodes and words as the run that follows, on an empty machine and on a changed one."""
    for nodes in (TWO, CHANGED):
        before, calls = host.snapshot(), list(host.systemd.calls)
        predicted = host.run("restarted", nodes=nodes, check=True)
        assert host.snapshot() == before
        assert host.systemd.calls == calls
        done = host.run("restarted", nodes=nodes)
        assert predicted["nodes"] == done["nodes"]


def test_what_somebody_changed_by_hand_is_put_right(host):
    """Digests are taken of the files, not of the record; modes count too."""
    host.run("started", nodes=TWO)
    home = host.root / "var/lib/stratos/net/m-1"
    (home / "config.json").write_bytes(b"edited")
    (home / "node.key").chmod(0o644)
    changed = host.run("started", nodes=TWO)
    assert changed["nodes"] == {"m-1": ["config.json", "node.key owner"]}
    assert stat.S_IMODE((home / "node.key").stat().st_mode) == 0o600


def test_homes_are_closed_and_records_hold_no_secret(host):
    """0700 and 0600 in homes; what everybody may read has digests only."""
    host.run("placed", nodes=TWO)
    home = host.root / "var/lib/stratos/net/m-1"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o600}
    record = (host.root / "etc/stratos/net/manifest.json").read_bytes()
    assert b"secret" not in record
    assert "secret" not in str(host.run("placed", nodes=CHANGED))


def test_no_link_in_a_home_is_followed(host):
    """Whoever owns the container cannot make root write elsewhere."""
    host.run("placed", nodes=TWO)
    outside = host.root / "outside"
    outside.write_bytes(b"precious")
    target = host.root / "var/lib/stratos/net/m-1/config.json"
    target.unlink()
    target.symlink_to(outside)
    host.run("placed", nodes=TWO)
    assert outside.read_bytes() == b"precious"
    assert target.read_bytes() == b"{}"
    assert not target.is_symlink()


def test_a_home_that_is_a_link_is_refused(host, bundle_module):
    """With the path and the fix, and before anything is written through it."""
    (host.root / "var/lib/stratos/net").mkdir(parents=True)
    (host.root / "elsewhere").mkdir()
    (host.root / "var/lib/stratos/net/m-1").symlink_to(host.root / "elsewhere")
    with pytest.raises(bundle_module.PlacingError, match="is a link"):
        host.run("placed", nodes=TWO)
    assert not list((host.root / "elsewhere").iterdir())


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "start"])
def test_a_run_that_was_cut_off_is_finished_by_the_same_run(host, verb):
    """Wherever it ended, the next one reaches what an undisturbed run reaches."""
    host.systemd.die_at = verb
    with pytest.raises(KeyboardInterrupt):
        host.run("started", nodes=TWO)
    host.systemd.die_at = None
    host.run("started", nodes=TWO)
    assert host.systemd.active == host.systemd.enabled == {"stratos-net-m-1.service", "stratos-net-m-2.service"}
    assert not host.run("started", nodes=TWO)["changed"]


def test_a_run_cut_off_between_two_files_is_finished_by_the_same_run(host, bundle_module, monkeypatch):
    """The record names a node only when all of it is there, and a half-written file is written again."""
    whole, count = bundle_module.place, []

    def short(path, relative, *rest):
        count.append(relative)
        if len(count) == 3:
            (path / f".{relative}.stratos-new").write_bytes(b"half")
            raise KeyboardInterrupt
        return whole(path, relative, *rest)

    monkeypatch.setattr(bundle_module, "place", short)
    with pytest.raises(KeyboardInterrupt):
        host.run("placed", nodes=TWO)
    monkeypatch.setattr(bundle_module, "place", whole)
    host.run("placed", nodes=TWO)
    homes = host.root / "var/lib/stratos/net"
    assert {path.name: path.read_bytes() for path in (homes / "m-1").iterdir()} == TWO["m-1"]
    assert not host.run("placed", nodes=TWO)["changed"]


def test_a_removed_node_goes_and_the_others_stay(host):
    """Its unit, container, home and place in the record."""
    host.run("started", nodes=TWO)
    rest = {"m-1": TWO["m-1"]}
    gone = host.run("started", nodes=rest, removed=["m-2", "never-here"])
    assert gone["nodes"] == {"m-2": ["unit removed", "digest removed", "digest removed", "home removed"]}
    assert ("rm", "stratos-net-m-2") in host.systemd.calls
    assert not (host.root / "var/lib/stratos/net/m-2").exists()
    assert not host.run("started", nodes=rest, removed=["m-2"])["changed"]


def test_work_on_some_nodes_leaves_the_others_as_they_are(host):
    """Files, record and running."""
    host.run("started", nodes=TWO)
    both = {"m-1": {"config.json": b"1", "node.key": b"k"}, "m-2": {"config.json": b"2", "node.key": b"k"}}
    assert list(host.run("restarted", nodes=both, only=["m-1"])["nodes"]) == ["m-1"]
    assert (host.root / "var/lib/stratos/net/m-2/config.json").read_bytes() == b"{}"
    assert list(host.run("restarted", nodes=both)["nodes"]) == ["m-2"]


def test_a_stopped_node_stays_stopped_over_a_boot_and_a_placing(host):
    """Stopping needs no bundle and disables; placing does not enable what was stopped."""
    host.run("started", nodes=TWO)
    assert host.run("stopped", only=["m-1"])["nodes"] == {"m-1": ["stopped", "disabled"]}
    assert not host.run("stopped", only=["m-1"])["changed"]
    assert not host.run("placed", nodes=TWO)["changed"]
    assert host.systemd.enabled == {"stratos-net-m-2.service"}


def test_destroying_leaves_the_machine_as_found(host):
    """Everything goes, without a bundle; a second run has nothing to do."""
    before = host.snapshot()
    host.run("started", nodes=TWO)
    predicted = host.run("absent", check=True)
    gone = host.run("absent")
    assert gone["last"]
    assert predicted["nodes"] == gone["nodes"]
    after = host.snapshot()
    assert {path: after[path] for path in after if path not in ("etc/stratos", "run/stratos")} == before
    assert not list((host.root / "etc/stratos").iterdir())
    assert not host.systemd.user
    assert not host.run("absent")["changed"]


def test_destroying_finds_what_a_cut_off_run_left(host):
    """Also when no node stands in the record yet."""
    host.systemd.die_at = "daemon-reload"
    with pytest.raises(KeyboardInterrupt):
        host.run("started", nodes=TWO)
    host.systemd.die_at = None
    assert set(host.run("absent")["nodes"]) == {"m-1", "m-2", "machine"}
    assert not list((host.root / "etc/systemd/system").iterdir())


def test_data_can_be_kept(host):
    """Homes and their owner stay; a later destroy without the wish takes them."""
    host.run("started", nodes=TWO)
    assert host.run("absent", keep_data=True)["last"]
    assert (host.root / "var/lib/stratos/net/m-1/node.key").exists()
    assert host.systemd.user
    host.run("absent")
    assert not (host.root / "var/lib/stratos").exists()
    assert not host.systemd.user


def test_the_user_stays_while_another_testnet_needs_it(host):
    """Machines are shared."""
    host.run("started", nodes=TWO)
    (host.root / "etc/stratos/other").mkdir()
    (host.root / "etc/stratos/other/manifest.json").write_text("{}")
    assert not host.run("absent")["last"]
    assert host.systemd.user


def test_a_user_that_was_there_before_stays(host):
    """Only what we made goes."""
    host.systemd.user = True
    host.run("started", nodes=TWO)
    host.run("absent")
    assert host.systemd.user


def test_base_settings_are_recorded_only_when_told(host):
    """Placing nodes alone says nothing about the rest of the machine."""
    record = host.root / "etc/stratos/net/manifest.json"
    host.run("placed", nodes=TWO)
    assert msgspec.json.decode(record.read_bytes())["base"] == ""
    host.run("placed", nodes=TWO, record_base=True)
    assert msgspec.json.decode(record.read_bytes())["base"] == "base-1"
    host.run("placed", nodes=CHANGED)
    assert msgspec.json.decode(record.read_bytes())["base"] == "base-1"


def test_content_that_is_not_what_the_manifest_says_is_not_placed(host, bundle_module):
    """A bundle that was tampered with on the way."""
    _, manifest = host._render(TWO, ())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("nodes/m-1/config.json", "nodes/m-1/node.key", "units/stratos-net-m-1.service"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"other"))
    with pytest.raises(bundle_module.PlacingError, match="not what its manifest says"):
        host.run("placed", nodes=TWO, archive=base64.b64encode(buffer.getvalue()).decode(), manifest=manifest)
    assert not list((host.root / "var/lib/stratos/net/m-1").iterdir())


def test_a_bundle_of_another_testnet_is_refused(host, bundle_module):
    """Before anything is touched."""
    with pytest.raises(bundle_module.PlacingError, match="testnet 'net'"):
        host.run("placed", nodes=TWO, testnet="elsewhere")
    assert not (host.root / "etc/stratos").exists()


def test_a_node_that_is_not_here_is_named(host, bundle_module):
    """Working on some nodes needs them to be on the machine."""
    with pytest.raises(bundle_module.PlacingError, match="no node m-9 of testnet net"):
        host.run("restarted", nodes=TWO, only=["m-9"])
