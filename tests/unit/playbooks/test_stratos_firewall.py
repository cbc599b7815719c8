"""Rules of several testnets on one machine stand side by side, and each goes with its testnet only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROLE = Path(__file__).resolve().parents[3] / "playbooks" / "roles" / "stratos_firewall"
NETWORK_OF_ITS_OWN = ["unshare", "--map-root-user", "--net"]
FAMILIES = ("nft", "v4", "v6")


class Filter:
    """A machine's folder of rules, and a network namespace to load it in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "testnets").mkdir()
        self._templates = Environment(
            loader=FileSystemLoader(ROLE / "templates"),
            undefined=StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        self._templates.tests["search"] = lambda value, pattern: (
            re.search(pattern, value) is not None
        )  # Ansible brings it
        for name in ("rules.nft", "iptables.sh"):
            (folder / name).write_text(self._rendered(f"{name}.j2", {}))

    def add(
        self,
        testnet: str,
        *,
        public: Iterable[int] = (),
        guarded: Iterable[int] = (),
        operators: Iterable[str] = (),
        policy: str = "ports",
    ) -> None:
        """Write a testnet's rules as the role does."""
        values = {
            "testnet": testnet,
            "public": list(public),
            "guarded": list(guarded),
            "trusted": list(operators),
            "ssh": [22],
            "policy": policy,
        }
        for family in FAMILIES:
            content = self._rendered(f"testnet.{family}.j2", values)
            (self.folder / "testnets" / f"{testnet}.{family}").write_text(content)

    def remove(self, testnet: str) -> None:
        """Take its files away."""
        for family in FAMILIES:
            (self.folder / "testnets" / f"{testnet}.{family}").unlink()

    def chains(self) -> dict[str, str]:
        """What the kernel has in each of our chains after loading twice, as `nft` says it."""
        load = f"nft --file {self.folder}/rules.nft"
        listed = json.loads(self._run(f"{load} && {load} && nft --json list table inet stratos"))["nftables"]
        return {one["chain"]["name"]: self._text(one["chain"]["name"], listed) for one in listed if "chain" in one}

    def iptables(self) -> str:
        """What the kernel has for IPv4 after loading twice."""
        load = f"sh {self.folder}/iptables.sh load"
        return self._run(f"{load} && {load} && iptables-save")

    def unloaded(self) -> str:
        """What is left after unloading."""
        return self._run(f"sh {self.folder}/iptables.sh load && sh {self.folder}/iptables.sh unload && iptables-save")

    def _text(self, chain: str, listed: list[dict[str, Any]]) -> str:
        return json.dumps([one["rule"] for one in listed if "rule" in one and one["rule"]["chain"] == chain])

    def _rendered(self, template: str, values: dict[str, Any]) -> str:
        named = {f"stratos_firewall_{name}": value for name, value in values.items()}
        folder = {"stratos_firewall_folder": str(self.folder), "ansible_managed": "test"}
        return self._templates.get_template(template).render(**folder, **named)

    def _run(self, script: str) -> str:
        done = subprocess.run([*NETWORK_OF_ITS_OWN, "sh", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def two(tmp_path: Path) -> Filter:
    """Testnets a and b on one machine; both guard the node exporter, a's bulk port is b's HTTP port."""
    if shutil.which("unshare") is None or subprocess.run([*NETWORK_OF_ITS_OWN, "true"], check=False).returncode:
        pytest.skip("no network namespace can be made here")
    both = Filter(tmp_path)
    both.add("a", public=[26656, 18181], guarded=[9100], operators=["192.0.2.1"])
    both.add("b", public=[26666], guarded=[9100, 18181], operators=["192.0.2.2", "2001:db8::1"])
    return both


needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
needs_iptables = pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="iptables is not installed")


@needs_nft
def test_two_testnets_stand_side_by_side(two: Filter) -> None:
    """Both open their ports, and every opening comes before any closing, so neither shuts what the other lets in."""
    chains = two.chains()
    assert set(chains) == {"ssh", "open", "shut", "rest", "input"}
    for port in ("26656", "26666", "18181", "192.0.2.1", "192.0.2.2", "2001:db8::1"):
        assert port in chains["open"]
    assert chains["shut"].count('"drop"') == 2
    jumps = [chains["input"].index(f'"target": "{name}"') for name in ("ssh", "open", "shut", "rest")]
    assert jumps == sorted(jumps)
    assert chains["rest"] == "[]"


@needs_nft
def test_a_testnet_takes_its_rules_along(two: Filter) -> None:
    """And no others; without any, SSH and everything else is open."""
    before = two.chains()
    two.add("c", public=[40_000], policy="strict")
    assert '"drop"' in two.chains()["rest"]
    two.remove("c")
    assert _without_handles(two.chains()) == _without_handles(before)
    two.remove("a")
    assert "26656" not in two.chains()["open"] and "26666" in two.chains()["open"]
    two.remove("b")
    assert {name: text for name, text in two.chains().items() if text != "[]"}.keys() == {"input"}


@needs_iptables
def test_iptables_says_the_same(two: Filter) -> None:
    """Chains of both testnets in one order, once however often they are loaded; unloading leaves nothing."""
    saved = two.iptables()
    if ":INPUT" not in saved:
        pytest.skip("this kernel has no iptables")
    for rule in (
        "-A STRATOS-OPEN -p tcp -m tcp --dport 26656 -j ACCEPT",
        "-A STRATOS-OPEN -s 192.0.2.1/32 -p tcp -m tcp --dport 9100 -j ACCEPT",
        "-A STRATOS-OPEN -s 192.0.2.2/32 -p tcp -m tcp --dport 18181 -j ACCEPT",
        "-A INPUT -j STRATOS",
    ):
        assert saved.count(rule + "\n") == 1, saved
    order = [saved.index(f"-A STRATOS -j STRATOS-{name}\n") for name in ("SSH", "OPEN", "SHUT", "REST")]
    assert order == sorted(order)
    two.remove("a")
    assert "26656" not in two.iptables()
    assert "STRATOS" not in two.unloaded()


def _without_handles(chains: dict[str, str]) -> dict[str, list[Any]]:
    """Expressions and comments, without the numbers that the kernel gives rules."""
    return {name: [(rule["expr"], rule.get("comment")) for rule in json.loads(text)] for name, text in chains.items()}
