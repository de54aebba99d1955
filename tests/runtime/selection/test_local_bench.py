"""A bench in this process: what it opens, and how often."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.base import RunOptions, Session
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.backends.registry import our_backends
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format
from runtime.selection.candidates import SPINNING, enumerate_candidates
from runtime.selection.library import LEAST_MODELS
from runtime.selection.local_bench import LocalBench
from runtime.selection.trial import IsolatedBench
from tests.runtime.selection.fakes import SOURCE, FakeBackend, backends, machine, make_bundle

CHECK_S = 1.0


@pytest.mark.parametrize("samples", [True, False])
def test_the_reference_is_opened_once_not_beside_every_candidate(tmp_path: Path, samples: bool) -> None:
    backend = FakeBackend()
    bundle = make_bundle(tmp_path, {"ref": {}, "a": {}, "b": {}}, samples=samples, labels=samples)
    candidates, _ = enumerate_candidates(bundle, machine(), [backend])
    bench = LocalBench(bundle)
    trials = [bench.try_out(candidate, candidates[0], 1, CHECK_S) for candidate in candidates]
    # The engine's library is loaded, and then each has its trial; what answers are compared with is learnt in its own.
    assert backend.opened == ["least.onnx", "ref", "ref", "a", "b"], "this engine does not read every ONNX file"
    assert [trial.guard.agreement for trial in trials] == [1.0, 1.0, 1.0]


def test_a_slow_model_is_checked_on_few_rows_first_and_on_enough_when_it_matters(tmp_path: Path) -> None:
    """40 samples take 0.2 s, which is beyond the 0.1 s that a trial has for them; how many are not depends on the machine."""
    bundle = make_bundle(tmp_path, {"ref": {"ms": 5}, "wrong": {"ms": 5, "wrong": 0.5}}, labels=False)
    candidates, _ = enumerate_candidates(bundle, machine(2), [FakeBackend(extras=({}, {SPINNING: "0"}))])
    reference = candidates[0]
    bench = LocalBench(bundle)
    wrong = [c for c in candidates if c.variant.name == "wrong"]
    first = bench.try_out(wrong[0], reference, 1, 0.1)
    assert first.guard.is_partial
    assert 1 <= first.guard.rows < 40
    # Neither threads nor spinning change what is computed.
    assert all(bench.try_out(c, reference, 1, 0.1).guard is first.guard for c in wrong[1:])
    whole = bench.check(wrong[0], reference, 10.0)
    assert (whole.rows, whole.is_partial) == (40, False)
    # However little time is left, on a few more than in the trial; and it says that these are not all.
    hurried = bench.check(wrong[0], reference, 0.0)
    assert hurried.is_partial
    assert first.guard.rows < hurried.rows < 40
    least = LocalBench(bundle).try_out(wrong[0], reference, 1, 0.01).guard
    assert (least.rows, least.is_partial) == (1, True)
    quick = LocalBench(bundle).try_out(reference, reference, 1, 10.0)
    assert (quick.guard.rows, quick.guard.is_partial) == (40, False)


@pytest.mark.parametrize(
    ("device", "told", "grown_mb"),
    [("cuda", True, [300.0, 300.0, 400.0]), ("cuda", False, [None] * 3), ("cpu", True, [None] * 3)],
)
def test_memory_of_the_gpu_is_what_its_use_grew_by(
    tmp_path: Path, device: str, told: bool, grown_mb: list[float | None]
) -> None:
    used = iter([500 << 20, 800 << 20, 800 << 20, 900 << 20])
    backend = FakeBackend("fake", device)
    bundle = make_bundle(tmp_path, {"ref": {}})
    (candidate,), _ = enumerate_candidates(bundle, machine(), [backend])
    bench = LocalBench(bundle, used_gpu_bytes=lambda: next(used) if told else None)
    memory = bench.try_out(candidate, candidate, 1, CHECK_S).memory
    assert [use.rows for use in memory] == [1, 8, 32]
    assert [use.gpu_mb for use in memory] == grown_mb


def test_memory_is_that_of_the_batches_that_a_queue_makes(tmp_path: Path) -> None:
    """In a process of its own: what else grows in this one is no candidate's."""
    bundle = make_bundle(tmp_path, {"ref": {"mb_a_row": 4, "ms": 0.01}})
    candidates, _ = enumerate_candidates(bundle, machine(2), backends())
    bench = IsolatedBench(bundle, SOURCE, seed=0, timeout_s=60.0, memory_mb=None)
    for candidate in candidates:  # the second one is not checked again, and still known
        memory = bench.try_out(candidate, candidates[0], 1, 30.0).memory
        assert [use.rows for use in memory] == [1, 8, 32]
        assert [round(use.mb / 4) for use in memory] == [pytest.approx(rows, abs=2) for rows in (1, 8, 32)]
    bench.close()


@pytest.mark.parametrize("first_ms", [0.0, 100.0])
def test_a_first_call_in_which_kernels_are_chosen_is_no_measure(tmp_path: Path, first_ms: float) -> None:
    bundle = make_bundle(tmp_path, {"ref": {"first_ms": first_ms}})
    (candidate,), _ = enumerate_candidates(bundle, machine(1), [FakeBackend("fake", "cuda")])
    trial = LocalBench(bundle, used_gpu_bytes=lambda: None).try_out(candidate, None, 1, CHECK_S)
    ((_, latencies),) = trial.latencies
    assert min(latencies) < 100.0
    assert len(latencies) > 1


def test_an_engine_that_was_loaded_is_told_before_its_first_trial(tmp_path: Path) -> None:
    """Whoever sets its objects aside then keeps every later look at memory from walking over them."""
    backend = FakeBackend()
    bundle = make_bundle(tmp_path, {"ref": {}, "a": {}})
    candidates, _ = enumerate_candidates(bundle, machine(), [backend])
    opened: list[list[str]] = []
    bench = LocalBench(bundle, after_loading=lambda: opened.append(list(backend.opened)))
    for candidate in candidates:
        bench.try_out(candidate, None, 1, CHECK_S)
    assert opened == [["least.onnx", "ref"]], "once for the engine, before anything that stays open"


class Clock:
    """A microsecond goes by whenever it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


class Noting(OnnxRuntimeBackend):
    """Notes which files it opens."""

    files: list[str]

    def open(self, file: Path, options: RunOptions) -> Session:
        self.files.append(file.name)
        return super().open(file, options)


def test_the_first_candidate_of_an_engine_is_opened_once_after_a_lesser_model(
    digits: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its opening is of its memory, and on nobody's account of time: the rest of the library comes with it."""
    backend = Noting.cpu()
    backend.files = []
    candidate = next(c for c in enumerate_candidates(digits, machine(), [backend])[0] if c.variant.name == "fp32.onnx")
    clock = Clock()
    monkeypatch.setattr("runtime.selection.local_bench.time.monotonic", clock)
    monkeypatch.setattr("runtime.selection.local_bench.time.process_time", clock)
    really_open = open_variant

    def open_slowly(*of: Any) -> OpenedVariant:
        clock.now += 7.0
        return really_open(*of)

    monkeypatch.setattr("runtime.selection.local_bench.open_variant", open_slowly)
    trial = LocalBench(digits).try_out(candidate, None, 1, CHECK_S)
    assert backend.files == ["least.onnx", "fp32.onnx"]
    assert trial.loading_s >= 7.0
    assert trial.effort_s < 7.0


def test_every_engine_here_that_reads_onnx_opens_the_least_model(tmp_path: Path) -> None:
    file = tmp_path / "least.onnx"
    file.write_bytes(LEAST_MODELS[Format.ONNX])
    here = [b for b in our_backends() if Format.ONNX in b.formats and b.unavailable_reason(machine()) is None]
    assert any(backend.name == "onnxruntime-cpu" for backend in here)
    for backend in here:
        session = backend.open(file, RunOptions())
        assert float(session.run({"x": np.float32([-1])})["y"][0]) == 0
        session.close()


def test_a_trial_is_charged_with_no_more_than_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of 5 ms that sleep: hardly any of the processor's time, and all of a device's."""
    processor_s = itertools.count(0, 1e-6)
    monkeypatch.setattr("runtime.selection.local_bench.time.process_time", lambda: next(processor_s))
    bundle = make_bundle(tmp_path, {"slow": {"ms": 5}})
    on_cpu, on_device = (
        LocalBench(bundle).try_out(
            enumerate_candidates(bundle, machine(), [FakeBackend(device=device)])[0][0], None, 1, 0.1
        )
        for device in ("cpu", "npu")
    )
    assert 0 < on_cpu.effort_s < 0.001
    assert on_device.effort_s >= 0.005 * 8


def test_a_turn_tells_what_all_threads_took_of_the_processor_and_for_how_long_a_device_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two turns of a few calls of 5 ms, of which the first is a warm-up; the processor's clock says 90 ms of them all."""
    processor_s = itertools.count(0, 0.09)
    monkeypatch.setattr("runtime.selection.local_bench.time.process_time", lambda: next(processor_s))
    bundle = make_bundle(tmp_path, {"slow": {"ms": 5}})
    on_cpu, on_device = (
        LocalBench(bundle).time(enumerate_candidates(bundle, machine(), [FakeBackend(device=device)])[0][0], 1, 0.02)
        for device in ("cpu", "npu")
    )
    assert on_cpu.busy_ms * len(on_cpu.latencies_ms) == pytest.approx(90)
    assert on_device.busy_ms * len(on_device.latencies_ms) == pytest.approx(sum(on_device.latencies_ms))


def test_the_rough_times_of_a_small_model_outlast_the_waking_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of 50 µs, by a clock that moves on by 25 whenever it is looked at: 20 of them are over in a millisecond."""
    ticks = itertools.count(0, 25_000)
    monkeypatch.setattr("runtime.selection.local_bench.time.perf_counter_ns", lambda: next(ticks))
    bundle = make_bundle(tmp_path, {"small": {"ms": 0}})
    (candidate,), _ = enumerate_candidates(bundle, machine(1), [FakeBackend()])
    ((_, latencies),) = LocalBench(bundle).try_out(candidate, None, 1, CHECK_S).latencies
    assert 2 * sum(latencies) > 4.0, "of LiteRT, two threads are awake after 2 to 5 ms"
