"""Joining and splitting keeps every row where it belongs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.rows import batch_key, has_one_key, is_batchable, join, split
from runtime.tensors import TensorSpec


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_split_undoes_join(rows: list[int]) -> None:
    requests = [
        {"x": np.full((count, 3), i, np.float32), "y": np.full((count,), i, np.int64)} for i, count in enumerate(rows)
    ]
    answers = split(join(requests), rows)
    assert answers is not None
    for request, answer in zip(requests, answers, strict=True):
        for name, value in request.items():
            np.testing.assert_array_equal(answer[name], value)


def test_outputs_with_another_number_of_rows_are_refused() -> None:
    assert split({"y": np.zeros((1, 4))}, [1, 1]) is None
    assert split({"y": np.float32(3.0) * np.ones(())}, [1]) is None


def test_keys_tell_apart_what_cannot_be_joined() -> None:
    base = {"x": np.zeros((1, 4), np.float32)}
    assert batch_key(base) == batch_key({"x": np.ones((7, 4), np.float32)})
    assert batch_key(base) != batch_key({"x": np.zeros((1, 5), np.float32)})
    assert batch_key(base) != batch_key({"x": np.zeros((1, 4), np.float64)})
    assert batch_key(base) != batch_key({"z": np.zeros((1, 4), np.float32)})


def test_only_models_with_a_batch_everywhere_are_batched() -> None:
    batched, fixed = TensorSpec("a", "FP32", (-1, 4)), TensorSpec("b", "FP32", (1, 4))
    assert is_batchable([batched], [batched])
    assert not is_batchable([batched], [fixed])
    assert not is_batchable([], [batched])
    assert has_one_key([batched])
    assert not has_one_key([TensorSpec("a", "FP32", (-1, -1))])
