"""Whom Prometheus is told to scrape."""

from msgspec import structs

from orchestrator.monitoring.targets import Exporter, machine_targets, node_targets, target_files
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.plan.ports import PortMap
from stratos.wire.config import NodeConfig, Ports


def plan() -> Plan:
    """Two nodes, the second without labels of its own and with an IPv6 address."""
    nodes = (
        ("v1", "validator", "10.0.0.1:26656", "machine-a", "eu"),
        ("r1", "resource", "[fd00::2]:18081", "", ""),
    )
    return Plan(
        name="net",
        source="net.yml",
        spawn="fork",
        ports=PortMap(),
        nodes=tuple(
            NodePlan(
                name=name,
                role=role,
                node="stsds1",
                owner="st1",
                public_key="00",
                deposit_wei=0,
                stake_wei=0,
                registers=False,
                config=NodeConfig(
                    name=name,
                    role=role,
                    network_address=address,
                    ports=Ports(p2p=1, http=1317),
                    host=host,
                    region=region,
                ),
            )
            for name, role, address, host, region in nodes
        ),
    )


def test_every_node_is_scraped_at_its_http_port_under_its_labels() -> None:
    """The labels are the ones all queries group by."""
    assert node_targets(plan())[0] == {
        "targets": ["10.0.0.1:1317"],
        "labels": {"testnet": "net", "node": "v1", "role": "validator", "region": "eu", "machine": "machine-a"},
    }


def test_a_node_with_a_port_for_metrics_is_scraped_there() -> None:
    """Its HTTP is for everybody and does not tell them."""
    node = plan().nodes[0]
    apart = structs.replace(node, config=structs.replace(node.config, ports=Ports(p2p=1, http=1317, metrics=26660)))
    [group] = node_targets(structs.replace(plan(), nodes=(apart,)))
    assert group["targets"] == ["10.0.0.1:26660"]


def test_an_ipv6_address_is_bracketed_and_a_node_alone_is_its_own_machine() -> None:
    """host:port stays parseable, and no label is missing."""
    [_, group] = node_targets(plan())
    assert group["targets"] == ["[fd00::2]:1317"]
    assert group["labels"]["machine"] == "r1"


def test_a_machine_with_several_nodes_is_scraped_once() -> None:
    """Two nodes on one machine share its exporter."""
    exporters = [Exporter("a", "10.0.0.1", "eu"), Exporter("a", "10.0.0.1", "eu"), Exporter("b", "10.0.0.2")]
    assert [group["targets"] for group in machine_targets("net", exporters)] == [["10.0.0.1:9100"], ["10.0.0.2:9100"]]


def test_both_documents_have_the_names_prometheus_looks_for() -> None:
    """They are handed to the role as they are."""
    assert set(target_files(plan(), [])) == {"nodes.json", "machines.json"}
