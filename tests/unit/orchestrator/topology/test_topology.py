"""What an inventory means, and every way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.topology.problems import InvalidInventory, Problem
from orchestrator.topology.raw import RawHost, RawInventory, RawValue
from orchestrator.topology.topology import Topology, read_topology, topology_of
from orchestrator.topology.variables import VARIABLES, WEI_PER_STOS
from tests.unit.orchestrator.topology.conftest import SMALL, Read

ROOT = Path(__file__).resolve().parents[4]


def variables(text: str) -> str:
    """SMALL with more lines under `all: vars:`."""
    return SMALL.replace("    stratos_copies: 2\n", "    stratos_copies: 2\n" + text)


@pytest.mark.parametrize("name", ["local.yml", "demo.yml"])
def test_the_inventories_that_come_along_are_valid(name: str) -> None:
    """The default testnet has 4 validators, 4 meta and 6 resource nodes, in start order, without warnings."""
    topology = read_topology(ROOT / "inventories" / name)
    assert [len(topology.of_role(role)) for role in ("validator", "meta", "resource")] == [4, 4, 6]
    assert [node.role for node in topology.nodes] == ["validator"] * 4 + ["meta"] * 4 + ["resource"] * 6
    assert topology.name == name.removesuffix(".yml")
    assert topology.warnings == ()
    assert topology.load_hosts == ("load-1",)


def test_defaults_come_from_the_genesis_records(read: Read) -> None:
    """A variable that is absent leaves the protocol's own value; one that is set replaces exactly one field."""
    plain = read(SMALL)
    changed = read(
        variables("    stratos_epoch_seconds: 7\n    stratos_mature_epoch: 3\n    stratos_settlement: all\n")
    )
    assert plain.genesis.meta.epoch_seconds == 600
    assert plain.genesis.ledger.pot.mature_epoch == 2016
    assert changed.genesis.meta.epoch_seconds == 7
    assert changed.genesis.ledger.pot.mature_epoch == 3
    assert changed.genesis.ledger.sds.settlement == "all"
    assert changed.genesis.ledger.register == plain.genesis.ledger.register


def test_amounts_are_exact(read: Read) -> None:
    """STOS in an inventory become integers of wei without passing through a float."""
    topology = read(SMALL.replace("{v1: }", '{v1: {stratos_stake_stos: "12345678.000000000000000001"}}'))
    assert topology.nodes[0].stake_wei == 12345678 * WEI_PER_STOS + 1


def test_tiers_give_deposits(read: Read) -> None:
    """A resource node's deposit is its tier's unless it names one; a meta node's is 100 STOS."""
    text = SMALL.replace("r1: , r2: ", "r1: {stratos_tier: 3}, r2: {stratos_tier: 2, stratos_deposit_stos: 5}")
    deposits = {node.name: node.deposit_wei // WEI_PER_STOS for node in read(text).nodes}
    assert deposits == {"v1": 0, "m1": 100, "r1": 3200, "r2": 5}


def test_host_ranges_group_vars_and_templates_are_ansibles(read: Read, tmp_path: Path) -> None:
    """Ranges expand, group_vars files apply, templates are rendered, the nearer value wins."""
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "resource.yml").write_text("stratos_tier: 2\nstratos_region: north\n")
    topology = read(
        """
        all:
          vars: {ansible_connection: local, machines: 3}
          children:
            validators: {hosts: {"v[1:4]": }}
            meta: {hosts: {"m[1:4]": }}
            resource:
              hosts:
                r[1:5]:
                  stratos_host: "machine-{{ inventory_hostname[1:] | int % machines }}"
                r6: {stratos_tier: 1, stratos_host: machine-9}
        """
    )
    resource = {node.name: node for node in topology.of_role("resource")}
    assert [node.name for node in topology.of_role("validator")] == ["v1", "v2", "v3", "v4"]
    assert {name: node.host for name, node in resource.items()} == {
        "r1": "machine-1", "r2": "machine-2", "r3": "machine-0", "r4": "machine-1", "r5": "machine-2", "r6": "machine-9",
    }  # fmt: skip
    assert {name: node.tier for name, node in resource.items()} == {
        "r1": 2,
        "r2": 2,
        "r3": 2,
        "r4": 2,
        "r5": 2,
        "r6": 1,
    }
    assert {node.region for node in resource.values()} == {"north"}


def test_ini_inventories_work_too(read: Read) -> None:
    """The format is Ansible's business."""
    topology = read(
        """
        [validators]
        v1
        [meta]
        m1
        [resource]
        r1
        r2
        [all:vars]
        ansible_connection=local
        stratos_copies=2
        """,
        name="small.ini",
    )
    assert topology.name == "small"
    assert topology.genesis.meta.copies == 2


def test_vault_values_are_read_with_ansibles_password_file(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value may be encrypted with ansible-vault."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    vault = VaultLib([("default", VaultSecret(b"open sesame"))])
    secret = vault.encrypt("hidden-name").decode()  # type: ignore[no-untyped-call]
    (tmp_path / "password").write_text("open sesame")
    monkeypatch.setattr("ansible.constants.config.get_config_value", lambda name: str(tmp_path / "password"))
    block = "    stratos_testnet: !vault |\n" + "".join(f"      {line}\n" for line in secret.splitlines())
    assert read(variables(block)).name == "hidden-name"


def test_every_problem_is_reported_at_once(problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """One run names every host, variable, value and what would be allowed."""
    found = problems(
        """
        all:
          vars: {ansible_connection: local, stratos_copis: 2, stratos_block_seconds: never}
          children:
            validators: {hosts: {v1: {stratos_tier: 2}, both: }}
            meta: {hosts: {both: }}
            resource: {hosts: {r1: {stratos_tier: 4}, r2: {ansible_connection: winrm}}, vars: {stratos_copies: 2}}
            elsewhere: {hosts: {stray: }}
        """
    )
    texts = [problem.sentence() for problem in found]
    expected = [
        ("host v1", "stratos_copis", "did you mean stratos_copies?"),
        ("host v1", "stratos_block_seconds = 'never'", "seconds from 0.01 to 3600"),
        ("host v1", "stratos_tier = 2", "only for hosts of group resource"),
        ("host both", "validators and meta", "one node is one inventory name"),
        ("host r1", "stratos_tier = 4", "an integer from 1 to 3"),
        ("host r2", "ansible_connection = winrm", "local"),
        ("host r1", "stratos_copies = 2 (set on group resource)", "set it under all: vars:"),
        ("host stray", "elsewhere", "validators, meta, resource, load, monitor"),
    ]
    for parts in expected:
        assert any(all(part in text for part in parts) for text in texts), (parts, texts)


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("stratos_copies: 0", "an integer from 1 to 16"),
        ("stratos_copies: true", "an integer from 1 to 16"),
        ("stratos_slice_transport: udp", "one of tls, plain"),
        ("stratos_community_tax: 0.1", "in quotes"),
        ("stratos_user_stos: 1.5", "in quotes"),
        ("stratos_epoch_seconds: -1", "seconds from"),
        ("stratos_exit_migration_fee: maybe", "true or false"),
        ("stratos_slice_bytes: 64 MiB", "bytes from 1 to 33554432"),
        ("stratos_testnet: ../other", "a name of lower-case letters"),
        ("stratos_gas_price_wei: [1]", "an integer of wei"),
        ("stratos_min_block_seconds: 9", "at most stratos_block_seconds"),
        ("stratos_epoch_seconds: 2", "or an epoch would have no block"),
        ("stratos_suspend_offline_seconds: 10", "when a silent holder becomes unavailable"),
        ("stratos_initial_total_supply_wei: 1000000000000000000", "genesis hands out"),
        ("stratos_min_deposit_wei: 200000000000000000000", "stratos_min_deposit_wei"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_allowed(
    problems: Callable[[str], tuple[Problem, ...]], line: str, allowed: str
) -> None:
    """Each kind of value says what it accepts."""
    base = SMALL.replace(
        "    stratos_copies: 2\n", "" if line.startswith("stratos_copies") else "    stratos_copies: 2\n"
    )
    text = base.replace("    ansible_connection: local\n", f"    ansible_connection: local\n    {line}\n")
    found = problems(text)
    name = line.split(":")[0]
    assert any(allowed in problem.sentence() for problem in found), found
    assert any(problem.variable in (name, "stratos_block_seconds", "stratos_deposit_stos") for problem in found)


@pytest.mark.parametrize("group", ["validators", "meta", "resource"])
def test_each_layer_needs_a_node(problems: Callable[[str], tuple[Problem, ...]], group: str) -> None:
    """An empty layer is no testnet."""
    lines = [line for line in SMALL.splitlines() if not line.strip().startswith(f"{group}:")]
    assert any(problem.host == f"group {group}" for problem in problems("\n".join(lines)))


def test_more_copies_than_machines_is_an_error(problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """Two copies never share a host label, so labels bound the copies."""
    text = SMALL.replace("r1: , r2: ", "r1: {stratos_host: a}, r2: {stratos_host: a}")
    (problem,) = problems(text)
    assert problem.variable == "stratos_copies"
    assert "at most 1" in problem.sentence()


def test_a_validator_with_two_thirds_of_all_stake_is_an_error(problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """One validator alone would decide everything."""
    text = SMALL.replace("{v1: }", "{v1: {stratos_stake_stos: 200}, v2: {stratos_stake_stos: 100}}")
    assert [problem.host for problem in problems(text)] == ["host v1"]


def test_small_layers_are_a_warning(read: Read) -> None:
    """Fewer than four meta nodes or validators work, but cannot lose one, and the user is told."""
    warnings = read(SMALL).warnings
    assert any("1 meta node:" in warning for warning in warnings)
    assert any("1 validator node:" in warning for warning in warnings)
    assert any("stratos_copies is 2" in warning for warning in warnings)


def test_sizes_that_add_no_safety_are_a_warning(read: Read) -> None:
    """Six validators can lose one, as four can: the user is told what seven would give."""
    text = SMALL.replace("validators: {hosts: {v1: }}", 'validators: {hosts: {"v[1:6]": }}')
    assert text != SMALL, "the small inventory has one validator v1"
    assert any("6 validator nodes can lose 1, as 4 can; 7 could lose 2" in warning for warning in read(text).warnings)


def test_a_variable_on_a_group_without_hosts_is_an_error(problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """What is set where nobody is was meant for somebody."""
    found = problems(SMALL + "    archive: {vars: {stratos_disk: 1 GiB}}\n")
    assert [(problem.host, problem.variable) for problem in found] == [("group archive", "stratos_disk")]


def test_unreadable_inventories_are_one_sentence(read: Read, tmp_path: Path) -> None:
    """Neither a missing file nor broken YAML ends in a traceback."""
    with pytest.raises(InvalidInventory, match="there is no inventory"):
        read_topology(tmp_path / "none.yml")
    with pytest.raises(InvalidInventory, match="not a readable Ansible inventory"):
        read("all: {children: [")


def test_the_cache_answers_only_for_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged inventory is not loaded again; a changed group_vars file is; templates and vault are never cached."""
    inventory, cache = tmp_path / "net.yml", tmp_path / "cache"
    inventory.write_text(SMALL)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "resource.yml").write_text("stratos_tier: 2\n")
    loads: list[Path] = []
    from orchestrator.topology import inventory as module

    real = module._load_with_ansible
    monkeypatch.setattr(module, "_load_with_ansible", lambda source: loads.append(source) or real(source))

    def read_again() -> Topology:
        return read_topology(inventory, cache=cache)

    first = read_again()
    assert read_again() == first
    assert len(loads) == 1
    (tmp_path / "group_vars" / "resource.yml").write_text("stratos_tier: 3\n")
    assert read_again().of_role("resource")[0].tier == 3
    assert len(loads) == 2
    inventory.write_text(SMALL.replace("stratos_copies: 2", 'stratos_copies: "{{ 1 + 1 }}"'))
    assert read_again() == read_again()
    assert len(loads) == 4


def test_rules_need_no_ansible() -> None:
    """A topology is a pure function of plain records."""
    here = {"stratos_copies": RawValue(1, "all")}

    def host(name: str, group: str) -> RawHost:
        return RawHost(name, (group,), "local", "", here)

    raw = RawInventory("x/pure.yml", (host("v", "validators"), host("m", "meta"), host("r", "resource")))
    assert topology_of(raw).name == "pure"


def test_every_variable_documents_itself() -> None:
    """The table is the documentation: each row has words, an allowed range and a place."""
    for row in VARIABLES.values():
        assert row.name.startswith("stratos_")
        assert row.doc
        assert row.kind.allowed
        assert row.where in ("all", "group or host")
        assert row.kind.parse(object()) is None


def test_one_mistake_in_a_group_is_one_line(read: Read) -> None:
    """Hosts that share a problem share its line, and each problem still names its own host."""
    with pytest.raises(InvalidInventory) as caught:
        read(SMALL.replace("r1: , r2: ", '"r[1:6]": ').replace("    stratos_copies: 2\n", "    stratos_copis: 2\n"))
    assert len(caught.value.problems) == 8
    assert str(caught.value).count("\n") == 1
    assert "hosts v1, m1, r1 and 5 more: stratos_copis = 2 (set on all)" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"all: [\n", "line 2, column 1"),
        (b"all:\n  hosts:\n    'a[1:x]':\n", "'x'"),
        (b"\xff\xfe\0", "UTF-8"),
    ],
)
def test_an_unreadable_inventory_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    """It says what is wrong and where, and Ansible's warnings about every parser that failed are not shown."""
    path = tmp_path / "net.yml"
    path.write_bytes(content)
    with pytest.raises(InvalidInventory) as caught:
        read_topology(path, cache=tmp_path / "cache")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_participants_inventory_may_have_empty_groups(read: Read) -> None:
    """With a network of others one node is enough, and its folder is looked for beside the inventory."""
    topology = read(
        """
        all:
          vars: {ansible_connection: local, stratos_network: net.network}
          children: {resource: {hosts: {mine: }}}
        """
    )
    assert [node.name for node in topology.nodes] == ["mine"]
    assert topology.network.endswith("/net.network")
    assert topology.warnings == ()


def test_one_node_serves_the_faucet(read: Read, problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """The one that is named, or the first that does not refuse; two are a mistake, and so is one in a network of others."""
    named = SMALL.replace("meta: {hosts: {m1: }}", "meta: {hosts: {m1: , m2: {stratos_faucet: true}}}")
    assert [node.name for node in read(named).nodes if node.faucet] == ["m2"]
    refused = SMALL.replace("meta: {hosts: {m1: }}", "meta: {hosts: {m1: {stratos_faucet: false}, m2: }}")
    assert [node.name for node in read(refused).nodes if node.faucet] == ["m2"]
    two = SMALL.replace(
        "meta: {hosts: {m1: }}", "meta: {hosts: {m1: {stratos_faucet: true}, m2: {stratos_faucet: true}}}"
    )
    assert [(one.host, one.variable) for one in problems(two)] == [("host m2", "stratos_faucet")]
