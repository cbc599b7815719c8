"""Writes small inventories and reads them back as topologies or as problems."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.topology.problems import InvalidInventory, Problem
from orchestrator.topology.topology import Topology, read_topology

SMALL = """
all:
  vars:
    ansible_connection: local
    stratos_copies: 2
  children:
    validators: {hosts: {v1: }}
    meta: {hosts: {m1: }}
    resource: {hosts: {r1: , r2: }}
"""

Read = Callable[..., Topology]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(yaml text, name="net.yml") -> Topology."""

    def reader(text: str, name: str = "net.yml") -> Topology:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return read_topology(path)

    return reader


@pytest.fixture
def problems(read: Read) -> Callable[[str], tuple[Problem, ...]]:
    """problems(yaml text) -> what is wrong with it."""

    def reader(text: str) -> tuple[Problem, ...]:
        with pytest.raises(InvalidInventory) as caught:
            read(text)
        return caught.value.problems

    return reader
