"""Who may compute while a graph is recorded: nobody; and nobody waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from runtime.backends.cuda_recording import RecordingGate

WAIT_S = 10.0


def test_callers_compute_side_by_side() -> None:
    gate, meeting = RecordingGate(), threading.Barrier(3)

    def compute() -> None:
        with gate:
            meeting.wait(WAIT_S)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(compute) for _ in range(3)]:
            done.result(WAIT_S)


def test_a_recording_has_the_gpu_to_itself() -> None:
    gate, lock = RecordingGate(), threading.Lock()
    inside = {"computing": 0, "recording": 0}
    seen: list[tuple[int, int]] = []

    def enter(what: str) -> None:
        with gate.recording() if what == "recording" else gate:
            with lock:
                inside[what] += 1
                seen.append((inside["computing"], inside["recording"]))
            with lock:
                inside[what] -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(enter, "recording" if at % 5 == 0 else "computing") for at in range(400)]:
            done.result(WAIT_S)
    assert len(seen) == 400
    assert all(recording == 0 or (computing, recording) == (0, 1) for computing, recording in seen)


def test_who_wants_to_record_goes_before_those_who_come_later() -> None:
    gate, order = RecordingGate(), list[str]()
    first_is_in, first_may_go = threading.Event(), threading.Event()

    def first() -> None:
        with gate:
            first_is_in.set()
            assert first_may_go.wait(WAIT_S)

    def record() -> None:
        with gate.recording():
            order.append("recorded")

    def later() -> None:
        with gate:
            order.append("computed")

    with ThreadPoolExecutor(3) as pool:
        pool.submit(first)
        assert first_is_in.wait(WAIT_S)
        recorder = pool.submit(record)
        while not gate._is_recording:
            assert not recorder.done()
        late = pool.submit(later)
        first_may_go.set()
        recorder.result(WAIT_S)
        late.result(WAIT_S)
    assert order == ["recorded", "computed"]


def test_a_recording_or_a_call_that_fails_lets_the_others_go_on() -> None:
    gate = RecordingGate()
    for entered in (gate.recording(), gate, gate.recording()):
        with suppress(RuntimeError), entered:
            raise RuntimeError("CUDA failure 900")
    with gate:
        pass
