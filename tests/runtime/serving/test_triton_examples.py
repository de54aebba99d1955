"""Triton's example clients, where a checkout of them is given: pytest --triton-examples FOLDER."""

from pathlib import Path

import pytest

from tests.runtime.serving.example_clients import kept
from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.triton_examples import (
    MODELS_WANTED,
    NOT_RUN,
    REFUSED,
    examples,
    run,
    serving_triton_models,
    why_not_run,
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "front"), [*((8, front) for front in at_hand()), (7, "auto")])
def test_every_example_passes_or_is_known_not_to(
    count: int, front: str, request: pytest.FixtureRequest, shared_models: Path, tmp_path: Path
) -> None:
    folder = request.config.getoption("--triton-examples")
    if folder is None:
        pytest.skip("no --triton-examples FOLDER: src/python/examples of triton-inference-server/client")
    failed, known = {}, kept("Triton")
    with serving_triton_models(tmp_path, shared_models / "triton_simple", count, front) as server:
        for example in examples(Path(folder)):
            if MODELS_WANTED.get(example, 8) != count or why_not_run(example, server) is not None:
                continue
            told = run(Path(folder), example, server)
            if told.is_passed is (example in REFUSED) or known[example].startswith("passes") is not told.is_passed:
                failed[example] = told.text
    assert not failed
    assert not set(NOT_RUN) & set(REFUSED)


def test_the_kept_table_says_why_of_every_example_that_does_not_pass() -> None:
    told = kept("Triton")
    assert sum(verdict == "passes" for verdict in told.values()) >= 25
    assert {example for example, verdict in told.items() if verdict != "passes"} == {*NOT_RUN, *REFUSED}
