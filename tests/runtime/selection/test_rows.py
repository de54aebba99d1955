"""What candidates are fed."""

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import BundleError
from runtime.selection.rows import MAX_RANDOM_BYTES, RANDOM_CALLS, RANDOM_ROWS, Rows, random_rows, rows_for
from runtime.tensors import DATATYPES, TensorSpec, check_inputs
from tests.runtime.selection.fakes import SPEC, make_bundle


def test_samples_come_with_their_outputs_and_labels(tmp_path: Path) -> None:
    rows = rows_for(make_bundle(tmp_path, {"a": {}}), [SPEC], 0)
    assert not rows.is_random
    assert len(rows) == 40
    assert rows.labels is not None
    assert list(rows.outputs) == ["y"]
    assert [part.stop for part, _ in rows.chunks(32)] == [32, 40]
    assert np.concatenate([chunk["x"] for _, chunk in rows.chunks(32)]).shape == (40, 4)


def test_more_rows_than_samples_start_over(tmp_path: Path) -> None:
    rows = rows_for(make_bundle(tmp_path, {"a": {}}), [SPEC], 0)
    taken = rows.take(50)["x"]
    assert np.array_equal(taken[:40], rows.inputs["x"])
    assert np.array_equal(taken[40:], rows.inputs["x"][:10])


def test_damaged_samples_are_an_error(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}})
    (tmp_path / "samples.npz").write_bytes(b"x")
    with pytest.raises(BundleError, match="copy the bundle again"):
        rows_for(bundle, [SPEC], 0)


def test_without_samples_rows_lie_in_the_declared_range_and_depend_on_the_seed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}}, samples=False)
    one, same, other = (rows_for(bundle, [SPEC], seed).inputs["x"] for seed in (1, 1, 2))
    assert one.shape == (RANDOM_ROWS, 4)
    assert 1.0 <= one.min() < 1.1
    assert 1.9 < one.max() <= 2.0
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
@pytest.mark.parametrize("shape", [(-1, 3), (16,), (), (1, -1, 2), (2, 3)])
def test_random_rows_of_every_datatype_and_shape_fit_the_model(datatype: str, shape: tuple[int, ...]) -> None:
    spec = TensorSpec("x", datatype, shape)
    rows = random_rows([spec], {"x": (-1000.0, 1000.0)}, 0)
    for size in rows.batch_sizes:
        assert check_inputs("m", [spec], rows.take(size)) == (size if spec.is_batched else 1)
    chunks = [chunk for _, chunk in rows.chunks(32)]
    for chunk in chunks:
        check_inputs("m", [spec], chunk)
    assert len(chunks) == (2 if spec.is_batched else RANDOM_CALLS if shape else 1)


def test_a_large_fixed_shape_gets_fewer_calls() -> None:
    spec = TensorSpec("x", "UINT8", (MAX_RANDOM_BYTES // 3, 1))
    assert len(random_rows([spec, TensorSpec("k", "FP32", (2,))], {}, 0)) == 3


def test_a_model_of_one_fixed_shape_gets_its_samples_call_by_call() -> None:
    spec = TensorSpec("x", "FP32", (2, 3))
    rows = Rows((spec,), {"x": np.arange(18, dtype=np.float32).reshape(6, 3)}, {}, None, is_random=False)
    assert len(rows) == 3
    assert rows.batch_sizes == (1,)
    assert [chunk["x"][0, 0] for _, chunk in rows.chunks(32)] == [0, 6, 12]


def test_a_scalar_beside_a_batch_is_the_same_in_every_call() -> None:
    specs = (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("k", "INT64", (1,)))
    rows = random_rows(specs, {}, 0)
    for _, chunk in rows.chunks(10):
        assert check_inputs("m", specs, chunk) in (10, 4)
