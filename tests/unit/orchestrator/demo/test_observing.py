"""State roots are compared validator by validator, each against what another one has for that height."""

from typing import Any

import pytest

from orchestrator.demo.observing import compare_roots
from orchestrator.errors import EnvironmentFault
from stratos.client.errors import Refused
from stratos.wire.block import Header
from stratos.wire.chainrpc import ChainStatus, GetChainStatus, GetHeader, HeaderAnswer


class Validators:
    """Each validator has a height and its own roots by height."""

    def __init__(self, heights: dict[str, int], *, astray: str = "") -> None:
        self.heights, self.astray = heights, astray
        self.asked_beyond = 0

    @property
    def validators(self) -> tuple[str, ...]:
        return tuple(self.heights)

    def root(self, name: str, height: int) -> bytes:
        return (height + (1000 if name == self.astray else 0)).to_bytes(32, "big")

    def ask(self, name: str, request: Any, kind: Any) -> Any:
        if isinstance(request, GetChainStatus):
            height = self.heights[name]
            return ChainStatus(height, b"b" * 32, self.root(name, height), 0, 3, 0)
        assert isinstance(request, GetHeader)
        if request.height > self.heights[name]:
            self.asked_beyond += 1
            self.heights[name] += 1
            raise Refused("no such block yet", "unknown")
        fields: dict[str, Any] = dict.fromkeys(Header.__struct_fields__, b"")
        fields |= {"height": request.height, "state_root": self.root(name, request.height)}
        return HeaderAnswer(Header(**fields), None)  # type: ignore[arg-type]


def test_validators_at_different_heights_are_compared_at_their_own() -> None:
    """Nobody has to stand still: each root is held against the header of its own height."""
    assert compare_roots(Validators({"v1": 7, "v2": 9, "v3": 8})).equal  # type: ignore[arg-type]


def test_a_validator_that_lags_is_waited_for() -> None:
    """The other side may not have the height yet; it is asked again until it has."""
    lagging = Validators({"v1": 9, "v2": 7})
    roots = compare_roots(lagging)  # type: ignore[arg-type]
    assert roots.equal and roots.height == 9 and lagging.asked_beyond == 2


def test_one_different_root_is_found() -> None:
    """A validator whose own state is another one is told, wherever it stands in the list."""
    for name in ("v1", "v2", "v3"):
        different = Validators({"v1": 7, "v2": 9, "v3": 8}, astray=name)
        assert not compare_roots(different).equal  # type: ignore[arg-type]


def test_one_validator_alone_proves_nothing() -> None:
    """There is nobody to compare with, which is an error and not equality."""
    with pytest.raises(EnvironmentFault, match="fewer than two"):
        compare_roots(Validators({"v1": 1}))  # type: ignore[arg-type]
