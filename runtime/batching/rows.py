"""Requests joined into one batch and their answers taken apart again, row by row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from runtime.tensors import Array, TensorSpec


def is_batchable(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether the rows of different requests may share a batch: every tensor has a free batch dimension in front."""
    return bool(inputs) and all(spec.is_batched for spec in (*inputs, *outputs))


def batch_key(inputs: Mapping[str, Array]) -> Hashable:
    """Equal for requests whose tensors can be joined: same names, dtypes and trailing shapes.

    For a model whose trailing dimensions are all fixed every valid request has the same key (see `has_one_key`).
    """
    return tuple(sorted((name, value.dtype.str, value.shape[1:]) for name, value in inputs.items()))


def has_one_key(inputs: Sequence[TensorSpec]) -> bool:
    """Whether every valid request has the same `batch_key`, so that computing it can be saved."""
    return all(-1 not in spec.shape[1:] for spec in inputs)


def join(requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """One batch of all requests' rows, in order; copies each input once."""
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}


def split(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]] | None:
    """Each request's rows of the outputs, as views; None when an output does not have as many rows as went in."""
    total = sum(rows)
    if any(value.ndim == 0 or len(value) != total for value in outputs.values()):
        return None
    answers: list[dict[str, Array]] = []
    start = 0
    for count in rows:
        answers.append({name: value[start : start + count] for name, value in outputs.items()})
        start += count
    return answers
