"""Whatever requests meet in a queue, each gets the answer to its own rows: a property, over real batches of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching.cut import BatchPolicy
from runtime.batching.rows import batch_key
from runtime.serving.local_service import LocalService
from runtime.serving.scheduler import Scheduler
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest, RequestedOutput
from tests.runtime.serving.real import make_engine, put_model

requests = st.lists(
    st.tuples(
        st.integers(1, 5),  # rows
        st.sampled_from([(2,), (3,), (2, 2)]),  # trailing shape
        st.sampled_from([np.float32, np.int64]),
        st.integers(0, 3),  # priority
        st.booleans(),  # given up by its caller
    ),
    min_size=1,
    max_size=24,
)
policies = st.builds(
    BatchPolicy,
    max_rows=st.integers(1, 16),
    max_delay_s=st.sampled_from([0.0, 0.002]),
    preferred_rows=st.lists(st.integers(1, 16), max_size=2).map(tuple),
)


def model(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Row by row, so that a row at the wrong place shows: its sum, and itself."""
    x = inputs["x"]
    return {"sum": x.reshape(len(x), -1).sum(axis=1), "same": x.copy()}


@given(asked=requests, policy=policies, cost_s=st.sampled_from([0.0, 0.001]), at_once=st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None)
def test_every_request_gets_its_own_rows(
    asked: list[tuple[int, tuple[int, ...], type, int, bool]], policy: BatchPolicy, cost_s: float, at_once: int
) -> None:
    seen: list[tuple[tuple[int, ...], np.dtype]] = []

    def watched(inputs: Mapping[str, Array]) -> dict[str, Array]:
        seen.append((inputs["x"].shape, inputs["x"].dtype))
        return model(inputs)

    async def body(pool: ThreadPoolExecutor) -> None:
        queue = Scheduler("rows", watched, lambda _: cost_s, policy, pool)
        queue.follow(policy, at_once, pool)
        rows = [
            (np.arange(count * int(np.prod(shape))).reshape(count, *shape) + 1000 * at).astype(dtype)
            for at, (count, shape, dtype, _, _) in enumerate(asked)
        ]
        tasks = [
            asyncio.create_task(queue.run({"x": x}, len(x), batch_key({"x": x}), None, priority))
            for x, (_, _, _, priority, _) in zip(rows, asked, strict=True)
        ]
        await asyncio.sleep(0)
        for task, (*_, is_given_up) in zip(tasks, asked, strict=True):
            if is_given_up:
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for x, answer, (*_, is_given_up) in zip(rows, answers, asked, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                assert is_given_up
                continue
            assert isinstance(answer, dict), answer
            for name, expected in model({"x": x}).items():
                np.testing.assert_array_equal(answer[name], expected)
                assert answer[name].dtype == expected.dtype
        await queue.drain()
        totals = queue.statistics
        assert totals.requests + totals.cancelled == len(asked)
        assert totals.executions == len(seen)

    with ThreadPoolExecutor(3) as pool:
        asyncio.run(body(pool))
    largest = max(count for count, *_ in asked)
    assert all(shape[0] <= max(policy.max_rows, largest) for shape, _ in seen)
    assert {(shape[1:], dtype) for shape, dtype in seen} <= {
        (shape, np.dtype(dtype)) for _, shape, dtype, _, _ in asked
    }


asks = st.lists(
    st.tuples(
        st.integers(1, 3),  # rows
        st.sampled_from([(), ("OUTPUT0",), ("OUTPUT1",), ("OUTPUT1", "OUTPUT0")]),
        st.integers(0, 3),  # classes of each output asked for; 0: the values
        st.dictionaries(st.sampled_from(["tag", "sequence_id", "priority"]), st.integers(1, 9)),
    ),
    min_size=2,
    max_size=12,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, LocalService]]:
    root = tmp_path_factory.mktemp("asked")
    engine = make_engine(root)
    put_model(root / "repository", "simple", 1)
    engine.load("simple")

    async def serve() -> LocalService:
        return LocalService(engine, name="asked", version="1")

    with asyncio.Runner() as runner:
        service = runner.run(serve())
        yield runner, service
        runner.run(service.drain())
        service.close()


@given(asked=asks)
@settings(max_examples=30, deadline=None)
def test_what_a_request_asks_of_its_answer_is_its_own(
    served: tuple[asyncio.Runner, LocalService], asked: list[tuple[int, tuple[str, ...], int, dict[str, int]]]
) -> None:
    async def body() -> None:
        sent = []
        for at, (rows, names, classes, parameters) in enumerate(asked):
            first = np.random.default_rng(at).permutation(rows * 16).reshape(rows, 16).astype(np.int32) + 100 * at
            wanted = tuple(RequestedOutput(name, {"classification": classes} if classes else {}) for name in names)
            inputs = {"INPUT0": first, "INPUT1": np.full_like(first, at)}
            sent.append(InferenceRequest("simple", inputs, id=f"id {at}", outputs=wanted, parameters=parameters))
        replies = await asyncio.gather(*map(service.infer, sent))
        for request, reply, (_, names, classes, _) in zip(sent, replies, asked, strict=True):
            first, second = request.inputs["INPUT0"], request.inputs["INPUT1"]
            right = {"OUTPUT0": first + second, "OUTPUT1": first - second}
            assert reply.id == request.id
            assert tuple(reply.outputs) == (names or tuple(right))
            for name, value in reply.outputs.items():
                if classes and names:
                    best = np.argsort(-right[name], axis=1)[:, :classes]
                    told = np.array([[int(item.split(b":")[1]) for item in row] for row in value])
                    np.testing.assert_array_equal(told, best)
                else:
                    np.testing.assert_array_equal(value, right[name])

    runner, service = served
    runner.run(body())
