"""The REST surface does exactly what /openapi.json says, whatever it is asked: never a 500, always one sentence."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from validator_net import ValidatorNet, wait_until

from stratos.wire.genesis import ConsensusParams


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A live single validator with a few blocks."""
    with ValidatorNet(tmp_path_factory.mktemp("rest"), size=1, consensus=ConsensusParams(block_seconds=0.2)) as net:
        wait_until(lambda: net.height(0) >= 3, seconds=120, what="three blocks")
        yield f"http://127.0.0.1:{net.http_ports[0]}"
        assert '"level":"error"' not in net.log(0)


@pytest.fixture(scope="module")
def api_schema(base_url: str) -> Any:
    """The document the node serves."""
    return schemathesis.openapi.from_url(f"{base_url}/openapi.json")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_documented(api_schema: Any, mode: GenerationMode) -> None:
    """Right and wrong requests to every documented operation are answered as the document promises."""
    tried = 0
    for found in api_schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def conforms(case: schemathesis.Case) -> None:
            answer = case.call_and_validate(timeout=60)
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert error["code"]
                assert "\n" not in error["sentence"]

        try:
            conforms()
        except Unsatisfiable:
            continue  # nothing can be wrong with an operation that takes no arguments
        tried += 1
    assert tried > 10
