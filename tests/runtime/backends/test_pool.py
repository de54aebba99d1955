"""Several sessions as one, and what every backend says of calls that are made at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import Overlap, RunOptions
from runtime.backends.litert import LiteRTBackend
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.openvino import OpenVinoSession
from runtime.backends.pool import SessionPool, open_beside
from runtime.backends.torch import TorchSession
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, ExecutionError
from runtime.tensors import Array, TensorSpec

SPEC = TensorSpec("x", "FP32", (-1, 4))
X = np.ones((1, 4), np.float32)
WAIT_S = 10.0


class OneAtATime:
    """A session that a second call at the same time would break; calls meet at `barrier` where one is given."""

    inputs = (SPEC,)
    outputs = (SPEC,)
    overlap = Overlap.OWN
    passes_nan = False

    def __init__(self, barrier: threading.Barrier | None = None) -> None:
        self.calls = 0
        self.is_closed = False
        self._barrier = barrier
        self._alone = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert self._alone.acquire(blocking=False), "two calls in one session"
        try:
            self.calls += 1
            if self._barrier is not None:
                self._barrier.wait(WAIT_S)
            if inputs["x"].size == 0:
                raise ExecutionError("nothing there")
            return {"x": inputs["x"]}
        finally:
            self._alone.release()

    def close(self) -> None:
        self.is_closed = True


def together(run: Callable[[], object], count: int) -> list[Exception]:
    """Makes `count` calls on threads of their own; what they raised."""
    failed: list[Exception] = []

    def call() -> None:
        try:
            run()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    return failed


def test_as_many_calls_as_sessions_run_at_the_same_time() -> None:
    barrier = threading.Barrier(3)  # broken unless three calls are inside at once
    pool = SessionPool([OneAtATime(barrier) for _ in range(3)])
    assert together(lambda: pool.run({"x": X}), 3) == []
    assert together(lambda: pool.run({"x": X}), 9) == [], "whoever comes beyond that waits"


def test_a_session_that_failed_is_used_again() -> None:
    sessions = [OneAtATime(), OneAtATime()]
    pool = SessionPool(sessions)
    for _ in range(4):
        with pytest.raises(ExecutionError):
            pool.run({"x": np.zeros((0, 4), np.float32)})
    for _ in range(4):
        np.testing.assert_array_equal(pool.run({"x": X})["x"], X)
    assert [session.calls for session in sessions] == [4, 4], "they take turns"
    pool.close()
    assert all(session.is_closed for session in sessions)


def test_what_cannot_be_opened_beside_leaves_the_first_one_alone() -> None:
    first, second = OneAtATime(), OneAtATime()
    opened = iter([second])

    def open_one() -> OneAtATime:
        for session in opened:
            return session
        raise BackendUnavailableError("no memory is left")

    with pytest.raises(BackendUnavailableError, match="no memory"):
        open_beside(first, 3, open_one)
    assert (first.is_closed, second.is_closed) == (False, True)
    assert open_beside(first, 1, open_one) is first


def test_two_interpreters_of_litert_run_beside_each_other(affine_file: Callable[[Format], Path]) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    file, backend = affine_file(Format.TFLITE), LiteRTBackend()
    first, second = backend.open(file, RunOptions()), backend.open(file, RunOptions())
    pool = SessionPool([first, second])
    waits = threading.Thread(target=lambda: pool.run({"x": X}))
    with first._lock:  # as if a long call were in it
        waits.start()
        end = time.monotonic() + WAIT_S
        while pool._idle.qsize() > 1:  # until the other call has taken the first one
            assert time.monotonic() < end
            time.sleep(0.001)
        assert pool.run({"x": X})["y"].shape == (1, 3), "the second one answers meanwhile"
        assert waits.is_alive()
    waits.join(WAIT_S)
    assert not waits.is_alive()
    pool.close()


def test_every_engine_says_what_becomes_of_calls_at_the_same_time(affine_file: Callable[[Format], Path]) -> None:
    session = OnnxRuntimeBackend.cpu().open(affine_file(Format.ONNX), RunOptions())
    assert session.overlap is Overlap.SHARED
    session.close()
    assert OnnxRuntimeBackend.cuda()._provider.overlap is Overlap.SHARED
    assert OnnxRuntimeBackend.tensorrt()._provider.overlap is Overlap.OWN
    assert OnnxRuntimeBackend.directml()._provider.overlap is Overlap.NEVER
    assert TorchSession.overlap is Overlap.SHARED
    assert OpenVinoSession.overlap is Overlap.OWN
