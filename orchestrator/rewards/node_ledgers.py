"""How the nodes' own ledgers are read: a node tells its accounts to its own machine only, so it is asked from there.

Processes are asked directly; containers and machines through a command that runs beside the node. A participant's node
of the register that is not ours cannot be asked at all.
"""

from __future__ import annotations

from orchestrator.errors import EnvironmentFault
from orchestrator.plan.plan import NodePlan
from orchestrator.rewards.evidence import ReadLines
from orchestrator.rewards.receipts import NodeLine, lines_of, node_lines
from orchestrator.runtimes.choose import runtime_for
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.remote import execute
from orchestrator.topology.topology import PROCESS
from stratos.client.records import ResourceEndpoint

ANSWER_SECONDS = 60.0
_ASK = (
    "import sys, urllib.request as r; "
    "sys.stdout.buffer.write(r.urlopen('http://127.0.0.1:%s/receipts' % sys.argv[1], timeout=30).read())"
)
"""Runs inside the node's container, with the Python that is there."""


def reader_of(folder: TestnetFolder) -> ReadLines:
    """How the ledgers of the nodes of this testnet are read."""
    plan = folder.need_plan()
    if plan.runtime == PROCESS:
        return node_lines
    runtime = runtime_for(plan, folder.path)
    nodes: dict[str, NodePlan] = {node.public_key: node for node in plan.operated}

    def read(endpoint: ResourceEndpoint) -> list[NodeLine]:
        node = nodes.get(endpoint.public_key)
        if node is None:
            raise EnvironmentFault(f"{endpoint.name} is not ours, so nobody here can read its own ledger")
        command = ["python3", "-I", "-c", _ASK, str(node.config.ports.http)]
        [done] = execute(folder, plan, runtime, [node], command, timeout=ANSWER_SECONDS, container=True)
        if done.problem or done.code:
            reason = done.problem or done.errors.strip()[-200:] or f"exit code {done.code}"
            raise EnvironmentFault(f"the receipts of {node.name} cannot be read: {reason}; start the node")
        return lines_of(node.name, done.output.encode())

    return read
