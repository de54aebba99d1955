"""While one thread records a CUDA graph no other may take memory on a GPU: CUDA fails both (its "global" capture mode).

https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__STREAM.html, cudaStreamBeginCapture
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class RecordingGate:
    """Any number of threads compute (`with gate:`), or one records; who wants to record goes before those who come later.

    A thread must not enter twice.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._recorder = threading.Lock()
        self._computing = 0
        self._is_recording = False

    def __enter__(self) -> None:
        """Waits while somebody records."""
        with self._changed:
            while self._is_recording:
                self._changed.wait()
            self._computing += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._computing -= 1
            if self._is_recording and self._computing == 0:
                self._changed.notify_all()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Waits until nobody computes; those who want to wait for its end."""
        with self._recorder:
            try:
                with self._changed:
                    self._is_recording = True
                    while self._computing:
                        self._changed.wait()
                yield
            finally:
                with self._changed:
                    self._is_recording = False
                    self._changed.notify_all()


GATE = RecordingGate()
"""Of this process, for every backend that uses CUDA."""
