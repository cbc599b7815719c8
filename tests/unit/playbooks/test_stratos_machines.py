"""Which inventory name acts for a machine, whatever the inventory looks like and whatever --limit leaves of it."""

import pytest

HOSTVARS = {
    "load-1": {"ansible_host": "10.0.0.1"},
    "v-1": {"ansible_host": "10.0.0.1"},
    "v-2": {},
    "m-1": {"ansible_host": "10.0.0.1"},
    "other": {"ansible_host": "10.0.0.9"},
}
GROUPS = {"all": list(HOSTVARS), "validators": ["v-1", "v-2"], "meta": ["m-1"], "load": ["load-1"]}


@pytest.fixture
def leaders(playbook_plugin):
    plugin = playbook_plugin("filter_plugins", "stratos_machines")
    return lambda names: plugin.stratos_leaders(names, HOSTVARS, GROUPS)


def test_one_name_acts_for_each_machine(leaders):
    """The first in inventory order, in the groups that any of the machine's names calls for."""
    assert leaders(["m-1", "v-2", "v-1", "load-1"]) == [
        {
            "name": "load-1",
            "machine": "10.0.0.1",
            "groups": ["stratos_machines", "stratos_node_machines", "stratos_load_machines"],
        },
        {"name": "v-2", "machine": "v-2", "groups": ["stratos_machines", "stratos_node_machines"]},
    ]


def test_any_name_of_a_machine_reaches_it(leaders):
    """Limited to a name that is not the first, that one acts, for all that the machine is."""
    assert leaders(["m-1"]) == [
        {
            "name": "m-1",
            "machine": "10.0.0.1",
            "groups": ["stratos_machines", "stratos_node_machines", "stratos_load_machines"],
        }
    ]
