"""The engine's module: adopts what is new enough, refuses what is too old, takes away what it installed and nothing else."""

import json

import pytest


class Host:
    """A machine as a table: which engine answers, which packages are there. Every program is written down."""

    def __init__(self, *, api="1.41", client=True, service=True, running=True, enabled=True):
        self.api, self.client, self.service, self.running, self.enabled = api, client, service, running, enabled
        self.calls, self.offered, self.die, self.others = [], True, "", ""

    def run(self, arguments, **more):
        words = " ".join(arguments)
        self.calls.append(words)
        if self.die and self.die in words:
            raise KeyboardInterrupt
        if words.startswith("docker version"):
            answer = json.dumps({"Version": "20.10.24", "ApiVersion": self.api})
            return (0, answer, "") if self.client and self.running else (1, "null", "no daemon")
        if words == "systemctl cat docker.service":
            return (0 if self.service else 1), "", ""
        if words == "systemctl is-enabled docker.service":
            return (0, "enabled", "") if self.enabled else (1, "disabled", "")
        if arguments[0] == "apt-get":
            return self._apt(words)
        if arguments[0] == "dpkg-query":
            return 0, "docker.io ii \nrunc ii \ntini un \n", ""
        if words.startswith("docker ps"):
            return 0, self.others, ""
        return 0, "", ""

    def _apt(self, words):
        if not self.offered:
            return 100, "", "E: Temporary failure resolving 'mirror'\nE: Unable to locate package docker.io\n"
        if "--simulate" in words:
            return 0, "Inst runc (1.1 x)\nInst docker.io (20 x)\nInst libc6 [2.35] (2.36 x)\nConf runc (1.1 x)\n", ""
        if " install " in words:
            self.client = self.service = self.running = True
        if " purge " in words:
            self.client = self.service = self.running = False
        return 0, "", ""

    def call(self, *arguments):
        code, out, _ = self.run(arguments)
        assert code == 0
        if arguments[:2] == ("systemctl", "start"):
            self.running = True
        if arguments[:2] == ("systemctl", "enable"):
            self.enabled = True
        return out

    def changing(self):
        """Programs that change the machine."""
        quiet = ("docker version", "systemctl cat", "systemctl is-enabled", "apt-get -o DPkg::Lock::Timeout=120 --sim")
        return [call for call in self.calls if not call.startswith(quiet)]


@pytest.fixture
def engine(playbook_module, tmp_path, monkeypatch):
    """engine(host, state, check=...): one run of the module."""
    module = playbook_module("stratos_engine")
    monkeypatch.setattr(module, "LEFTOVERS", ())
    monkeypatch.setattr(module, "FORWARD", tmp_path / "ip_forward")
    (tmp_path / "ip_forward").write_text("0\n")
    monkeypatch.setattr(module, "_has_group", lambda name: False)

    def run(host, state="present", *, check=False):
        params = {"state": state, "package": "docker.io", "min_api": "1.41"}
        one = module.Engine(
            params, check=check, system=host, record=tmp_path / "engine.json",
            program=lambda: "/usr/bin/docker" if host.client else None,
        )  # fmt: skip
        return one.present() if state == "present" else one.absent()

    run.record = tmp_path / "engine.json"
    run.refusal = module.PlacingError
    run.forward = tmp_path / "ip_forward"
    return run


def test_an_engine_that_is_new_enough_is_left_as_it_is(engine):
    """Nothing is done and nothing written down, so nothing will be removed."""
    host = Host(api="1.50")
    result = engine(host)
    assert (result["changed"], result["origin"], result["api"]) == (False, "adopted", "1.50")
    assert host.changing() == []
    assert not engine.record.exists()
    assert not engine(host, "absent")["changed"]


@pytest.mark.parametrize("api", ["1.40", "1.9", "1.24"])
def test_an_engine_that_is_too_old_is_refused_with_the_fix(engine, api):
    """To replace it is its owner's decision. Versions are compared as numbers."""
    host = Host(api=api)
    with pytest.raises(engine.refusal, match=r"1\.41 is needed .* upgrade it"):
        engine(host)
    assert host.changing() == []


@pytest.mark.parametrize("client", [True, False])
def test_where_there_is_none_it_is_installed_once(engine, client):
    """A client alone is none. The second run changes nothing."""
    host = Host(client=client, service=False, running=False)
    assert engine(host, check=True)["changed"]
    assert host.changing() == []
    assert engine(host)["origin"] == "installed"
    assert not engine(host)["changed"]
    assert json.loads(engine.record.read_text())["packages"] == ["docker.io", "runc"]


def test_what_was_installed_is_removed_and_what_it_switched_is_switched_back(engine):
    """Exactly the packages that were added, of those that are still there."""
    host = Host(client=False, service=False, running=False)
    engine(host)
    engine.forward.write_text("1\n")
    assert engine(host, "absent")["changed"]
    assert [call for call in host.calls if "purge" in call] == [
        "apt-get -o DPkg::Lock::Timeout=120 purge --yes docker.io runc"
    ]
    assert engine.forward.read_text() == "0\n"
    assert not engine.record.exists()
    assert not engine(host, "absent")["changed"]


def test_an_installation_that_was_cut_off_is_finished_and_can_be_undone(engine):
    """What will be added is written down before it is added."""
    host = Host(client=False, service=False, running=False)
    host.die = "install --yes"
    with pytest.raises(KeyboardInterrupt):
        engine(host)
    host.die = ""
    assert json.loads(engine.record.read_text())["packages"] == ["docker.io", "runc"]
    host.client = host.service = host.running = True  # dpkg had come that far
    assert engine(host)["origin"] == "installed"
    assert any("install --yes" in call for call in host.calls)
    assert not engine(host)["changed"]


def test_an_engine_of_ours_that_others_use_stays(engine):
    """And whose container keeps it is said."""
    host = Host(client=False, service=False, running=False)
    engine(host)
    host.others = "database\n"
    result = engine(host, "absent")
    assert not result["changed"]
    assert "container database" in result["kept"]
    assert engine.record.exists()


def test_the_first_reason_is_the_one_that_is_told(engine):
    """Not the last line of a program that failed because of an earlier one."""
    host = Host(client=False, service=False, running=False)
    host.offered = False
    with pytest.raises(engine.refusal, match="Temporary failure resolving"):
        engine(host)
    assert not engine.record.exists()


def test_an_engine_that_is_not_enabled_is_enabled_and_later_put_back(engine):
    """Nodes have to come back after a boot; the owner's setting comes back after us."""
    host = Host(enabled=False)
    assert engine(host)["notes"] == ["engine enabled"]
    assert engine(host, "absent")["notes"] == ["engine disabled"]
    assert not any("purge" in call for call in host.calls)


def test_rules_of_an_engine_outside_are_not_taken_for_ours(playbook_module):
    """A machine may be a container itself, and its names are served by such rules."""
    rule = playbook_module("stratos_engine").ENGINE_RULE
    assert rule.search("-A FORWARD -j DOCKER-USER")
    assert rule.search("-A DOCKER -i docker0 -j RETURN")
    assert not rule.search("-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT")
