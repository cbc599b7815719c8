"""The image's module and plugin: never copied twice, never the wrong one, the one before is kept, older ones of ours go."""

import hashlib
import io
import json
import tarfile

import pytest


class Store:
    """An engine's images: tag -> id. `behind` is what the next load brings."""

    def __init__(self):
        self.tags, self.behind, self.loads, self.removed = {}, {}, 0, []
        self.containerd, self.die = False, False

    def run(self, arguments, **more):
        words = " ".join(arguments)
        if words.startswith("docker image inspect"):
            found = self.tags.get(arguments[-1])
            return (0, found + "\n", "") if found else (1, "", "Error: No such image: " + arguments[-1])
        if words.startswith("docker load"):
            self.loads += 1
            self.tags.update(self.behind)
            if self.die:
                raise KeyboardInterrupt
            return 0, "Loaded image", ""
        if words.startswith("docker info"):
            return 0, '[["driver-type","io.containerd.snapshotter.v1"]]' if self.containerd else "[]", ""
        if words.startswith("docker image rm"):
            self.removed.append(arguments[-1])
            self.tags = {tag: one for tag, one in self.tags.items() if arguments[-1] not in (tag, one)}
            return 0, "", ""
        return 0, "", ""


@pytest.fixture
def images(playbook_module, tmp_path):
    """images(store, number): one run for image n:NUMBER with id sha256:NUMBER, loading when it has to."""
    module = playbook_module("stratos_image")
    archive = tmp_path / "stratos-image"
    archive.write_bytes(b"an image")

    def run(store, number=1, state="present", *, check=False, copied=True, **changes):
        params = {
            "image": f"n:{number}", "image_id": f"sha256:{number}", "state": state, "loaded_from": None,
            "sha256": hashlib.sha256(b"an image").hexdigest(), **changes,
        }  # fmt: skip

        def once(**more):
            one = module.Images(
                {**params, **more}, check=check, system=store, record=tmp_path / "etc/stratos/images.json"
            )
            return one.present() if state == "present" else one.absent()

        result = once()
        if state == "present" and copied and not check and not result["present"]:
            store.behind = store.behind or {f"n:{number}": f"sha256:{number}"}
            result = once(loaded_from=str(archive))
            store.behind = {}
        return result

    (tmp_path / "etc/stratos").mkdir(parents=True)
    run.record = tmp_path / "etc/stratos/images.json"
    run.refusal = module.PlacingError
    return run


def test_an_image_is_loaded_once(images):
    """The second run neither copies nor changes."""
    store = Store()
    assert images(store)["changed"]
    assert not images(store)["changed"]
    assert store.loads == 1


def test_an_image_that_was_there_is_none_of_ours(images):
    """It is used, and never removed."""
    store = Store()
    store.tags["n:1"] = "sha256:1"
    assert not images(store)["changed"]
    assert not images(store, state="absent")["changed"]
    assert store.tags == {"n:1": "sha256:1"}


def test_a_tag_that_names_another_image_is_brought_again(images):
    """The id counts, not the name."""
    store = Store()
    store.tags["n:1"] = "sha256:old"
    assert images(store)["changed"]
    assert store.tags["n:1"] == "sha256:1"


def test_a_damaged_copy_is_not_loaded(images):
    """Its digest was taken before it travelled."""
    store = Store()
    with pytest.raises(images.refusal, match="damaged on the way"):
        images(store, sha256="00")
    assert store.loads == 0


def test_another_image_than_the_wanted_one_is_refused(images):
    """With both ids."""
    store = Store()
    store.behind = {"n:1": "sha256:other"}
    with pytest.raises(images.refusal, match="holds another n:1"):
        images(store)


def test_an_engine_that_names_images_otherwise_is_understood(images):
    """Images kept in containerd have another id there; it is remembered."""
    store = Store()
    store.containerd = True
    store.behind = {"n:1": "sha256:local"}
    assert images(store)["changed"]
    assert not images(store)["changed"]
    assert store.loads == 1


def test_the_one_before_is_kept_and_older_ones_go(images):
    """A rollback must not need the network."""
    store = Store()
    for number in (1, 2, 3):
        images(store, number)
    assert sorted(store.tags) == ["n:2", "n:3"]
    assert not images(store, 2)["changed"]


def test_an_image_that_a_testnet_names_stays(images):
    """Also one of another testnet of the machine."""
    store = Store()
    images(store, 1)
    other = images.record.parent / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps({"image": "n:1", "nodes": [{"image": "n:1"}]}))
    images(store, 2)
    images(store, 3)
    assert "n:1" in store.tags
    images(store, state="absent")
    assert list(store.tags) == ["n:1"]


def test_a_load_that_was_cut_off_leaves_nothing_behind_for_ever(images):
    """Loaded and not yet written down: the next run knows it as ours all the same."""
    store = Store()
    store.die = True
    with pytest.raises(KeyboardInterrupt):
        images(store)
    store.die = False
    assert not images(store)["changed"]
    assert store.loads == 1
    assert images(store, state="absent")["removed"] == ["n:1"]
    assert store.tags == {}
    assert not images.record.exists()


def test_check_mode_writes_nothing(images):
    """Missing: it would be brought. There: nothing."""
    store = Store()
    assert images(store, check=True)["changed"]
    assert not images.record.exists()
    images(store)
    assert not images(store, check=True)["changed"]


def saved(path, documents):
    """A tar with some JSON members, as an engine saves images."""
    with tarfile.open(path, "w") as tar:
        for name, document in documents.items():
            data = json.dumps(document).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "documents",
    [
        {"manifest.json": [{"Config": "aa.json"}]},
        {"manifest.json": [{"Config": "blobs/sha256/aa"}]},
        {"index.json": {"manifests": [{"digest": "sha256:aa"}]}, "manifest.json": [{"Config": "blobs/sha256/bb"}]},
    ],
)
def test_a_wrong_archive_is_refused_before_it_travels(playbook_plugin, tmp_path, documents):
    """Old and new forms of archives name the id they hold."""
    plugin = playbook_plugin("action_plugins", "stratos_image")
    archive = saved(tmp_path / "image.tar", documents)
    plugin._check(archive, "n:1", "sha256:aa")
    with pytest.raises(plugin.AnsibleActionFail, match="and not n:1"):
        plugin._check(archive, "n:1", "sha256:cc")
