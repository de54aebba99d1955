"""KServe's clients, where an interpreter that has them is given: pytest --kserve-python PYTHON."""

from pathlib import Path

import pytest

from tests.runtime.serving.example_clients import kept, run_kserve
from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.real import serving_models


@pytest.mark.slow
@pytest.mark.parametrize("front", at_hand())
def test_kserves_clients_are_answered(front: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    python = request.config.getoption("--kserve-python")
    if python is None:
        pytest.skip("no --kserve-python PYTHON: an environment of its own, made with pip install kserve==0.21.0")
    with serving_models(tmp_path, grpc_front=front) as real:
        asked, said = run_kserve(python, real.grpc, real.http)
    assert asked, said
    assert dict.fromkeys(asked, "passes") == kept("KServe"), "the kept table is out of date"


def test_the_kept_table_has_both_protocols_of_kserve() -> None:
    told = kept("KServe")
    assert set(told.values()) == {"passes"}
    for way in (
        "REST, binary True: infer",
        "REST, binary False: infer",
        "gRPC, raw True: infer",
        "gRPC, raw False: infer",
    ):
        assert way in told
