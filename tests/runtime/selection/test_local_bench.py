"""A bench in this process: what it opens, and how often."""

from pathlib import Path

import pytest

from runtime.selection.candidates import enumerate_candidates
from runtime.selection.local_bench import LocalBench
from tests.runtime.selection.fakes import FakeBackend, machine, make_bundle


@pytest.mark.parametrize("samples", [True, False])
def test_the_reference_is_opened_once_not_beside_every_candidate(tmp_path: Path, samples: bool) -> None:
    backend = FakeBackend()
    bundle = make_bundle(tmp_path, {"ref": {}, "a": {}, "b": {}}, samples=samples, labels=samples)
    candidates, _ = enumerate_candidates(bundle, machine(), [backend])
    bench = LocalBench(bundle)
    trials = [bench.try_out(candidate, candidates[0], 1) for candidate in candidates]
    # The engine's library is loaded, what answers are compared with is learnt, and then each has its trial.
    assert backend.opened == ["ref", "ref", "ref", "a", "b"]
    assert [trial.guard.agreement for trial in trials] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("device", "told", "grown_mb"), [("cuda", True, 300.0), ("cuda", False, None), ("cpu", True, None)]
)
def test_memory_of_the_gpu_is_what_its_use_grew_by(
    tmp_path: Path, device: str, told: bool, grown_mb: float | None
) -> None:
    used = iter([500 << 20, 800 << 20])
    backend = FakeBackend("fake", device)
    bundle = make_bundle(tmp_path, {"ref": {}})
    (candidate,), _ = enumerate_candidates(bundle, machine(), [backend])
    bench = LocalBench(bundle, used_gpu_bytes=lambda: next(used) if told else None)
    assert bench.try_out(candidate, candidate, 1).gpu_memory_mb == grown_mb


@pytest.mark.parametrize(
    ("device", "opened"), [("cuda", ["ref", "ref", "a"]), ("cpu", ["ref", "ref", "a", "ref", "a"])]
)
def test_on_a_gpu_the_session_of_the_trial_has_the_turns_too(tmp_path: Path, device: str, opened: list[str]) -> None:
    backend = FakeBackend("fake", device)
    bundle = make_bundle(tmp_path, {"ref": {}, "a": {}}, samples=True, labels=True)
    candidates, _ = enumerate_candidates(bundle, machine(1), [backend])
    bench = LocalBench(bundle, used_gpu_bytes=lambda: 0)
    for candidate in candidates:
        bench.try_out(candidate, None, 1)
    for candidate in [*candidates, *candidates]:
        assert bench.time(candidate, 1, 0.0)
    # One more at first, for the engine's library.
    assert backend.opened == opened
    bench.close()


@pytest.mark.parametrize("first_ms", [0.0, 100.0])
def test_a_first_call_in_which_kernels_are_chosen_is_no_measure(tmp_path: Path, first_ms: float) -> None:
    bundle = make_bundle(tmp_path, {"ref": {"first_ms": first_ms}})
    (candidate,), _ = enumerate_candidates(bundle, machine(1), [FakeBackend("fake", "cuda")])
    trial = LocalBench(bundle, used_gpu_bytes=lambda: None).try_out(candidate, None, 1)
    ((_, latencies),) = trial.latencies
    assert min(latencies) < 100.0
    assert len(latencies) > 1
