"""Which pairs become candidates, and the sentence for each pair that does not."""

from pathlib import Path

import pytest

from runtime.bundle.manifest import Format
from runtime.errors import WrongUseError
from runtime.selection.candidates import enumerate_candidates, thread_counts
from tests.runtime.selection.fakes import FakeBackend, machine, make_bundle


@pytest.mark.parametrize(
    ("allowed", "counts"), [(1, (1,)), (2, (1, 2)), (3, (1, 3)), (4, (1, 2, 4)), (8, (1, 4, 8)), (0, (1,))]
)
def test_one_half_and_all_threads_each_once(allowed: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(allowed) == counts


def test_candidates_are_variants_by_backends_by_threads_by_options(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}, "b": {}})
    backend = FakeBackend(extras=({}, {"spinning": "0"}, {"fast": "1"}))
    candidates, rejected = enumerate_candidates(bundle, machine(8), [backend])
    assert rejected == []
    assert [c.key for c in candidates if c.variant.name == "a"] == [
        "a on fake-cpu, 1 thread",
        "a on fake-cpu, 4 threads",
        "a on fake-cpu, 8 threads",
        # One thread has no worker that could spin.
        "a on fake-cpu, 4 threads, spinning=0",
        "a on fake-cpu, 8 threads, spinning=0",
        "a on fake-cpu, 1 thread, fast=1",
        "a on fake-cpu, 4 threads, fast=1",
        "a on fake-cpu, 8 threads, fast=1",
    ]
    assert len({c.key for c in candidates}) == len(candidates) == 16


def test_a_device_other_than_the_processor_is_tried_with_one_thread_count(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}})
    candidates, _ = enumerate_candidates(bundle, machine(8), [FakeBackend(name="fake-cuda", device="cuda")])
    assert [c.options.threads for c in candidates] == [8]


def test_every_pair_that_cannot_run_has_its_reason(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}, "b": {}})
    absent = FakeBackend(name="absent", reason="onnxruntime-gpu is not installed")
    other = FakeBackend(name="other", formats=frozenset({Format.TFLITE, Format.TORCH}))
    candidates, rejected = enumerate_candidates(bundle, machine(), [other, absent])
    assert candidates == []
    assert [str(r) for r in rejected] == [
        "a on absent: onnxruntime-gpu is not installed",
        "b on absent: onnxruntime-gpu is not installed",
        "a on other: it reads pt2, tflite, not onnx",
        "b on other: it reads pt2, tflite, not onnx",
    ]
    assert [r.is_misfit for r in rejected] == [False, False, True, True]


def test_filters_leave_the_others_out_and_say_so(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}, "b": {}})
    two = [FakeBackend(), FakeBackend(name="second")]
    candidates, rejected = enumerate_candidates(bundle, machine(), two, ["second"], ["b"])
    assert [c.pair for c in candidates] == [("b", "second")]
    assert "a on second: left out: only b was asked for" in [str(r) for r in rejected]
    assert "b on fake-cpu: left out: only second was asked for" in [str(r) for r in rejected]


@pytest.mark.parametrize(("only_backends", "only_variants"), [(["onxruntime"], []), ([], ["int4"])])
def test_a_filter_that_names_nothing_is_wrong_use(
    tmp_path: Path, only_backends: list[str], only_variants: list[str]
) -> None:
    bundle = make_bundle(tmp_path, {"a": {}})
    with pytest.raises(
        WrongUseError, match=r"unknown (backend|variant) '(onxruntime|int4)'; expected one of (fake-cpu|a)"
    ):
        enumerate_candidates(bundle, machine(), [FakeBackend()], only_backends, only_variants)
