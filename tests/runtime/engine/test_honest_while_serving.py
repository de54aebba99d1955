"""`edgeward serve` whose chosen backend becomes slow under its callers: noticed, measured again, switched, no call lost."""

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from runtime.client import connect
from runtime.tensors import Array
from tests.programs import Program, started
from tests.runtime.engine.drill_backends import SLOW_FILE, install
from tests.runtime.selection.fakes import CLASSES, make_bundle

pytestmark = pytest.mark.slow

PATIENCE_S = 90.0
X = np.eye(CLASSES, dtype=np.float32)[:1] + 1


class Callers:
    """Threads that ask for answers one after the other, and remember what came."""

    def __init__(self, program: Program, model: str, inputs: dict[str, Array], count: int = 3) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._program, self._model, self._inputs, self._count = program, model, inputs, count
        self._first: dict[str, Array] | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Meanwhile they ask."""
        threads = [threading.Thread(target=self._ask) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(PATIENCE_S)

    def _ask(self) -> None:
        with connect(self._program.grpc) as client:
            while not self._stop.is_set():
                try:
                    seen = dict(client.predict(self._model, self._inputs).outputs)
                except Exception as error:
                    self.failures.append(repr(error))
                    continue
                with self._lock:
                    self.answered += 1
                    self._first = self._first or seen
                for name, value in self._first.items():
                    if not np.allclose(seen[name], value, rtol=1e-3, atol=1e-3):
                        self.failures.append(f"answered {seen[name]}, before {value}")


def metrics(program: Program) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{program.http.removeprefix('http://')}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def of(told: dict[str, float], name: str, *labels: str) -> float:
    """The sum of the samples of a metric that have all these labels."""
    return sum(n for text, n in told.items() if text.startswith(name + "{") and all(label in text for label in labels))


def wait_until(program: Program, name: str, *labels: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not of(metrics(program), name, *labels):
        assert time.monotonic() < end, f"{name} {labels} stays 0"
        assert program.process.poll() is None
        time.sleep(0.2)


def test_a_backend_that_becomes_slow_is_left_without_losing_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, slow_file, packages = tmp_path / "home", tmp_path / "slow", tmp_path / "packages"
    home.mkdir()
    install(packages)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setenv(SLOW_FILE, str(slow_file))
    bundle = make_bundle(tmp_path / "fake", {"only.onnx": {}})
    ports = ("--grpc-port", "0", "--http-port", "0")
    with started(home, "serve", str(bundle.root), "--threads", "1", *ports) as program:
        assert "drill-first" in program.models[0]["backend"], program.models
        callers = Callers(program, "fake", {"x": X})
        with callers.asking():
            wait_until(program, "edgeward_latency_verdicts_total", 'verdict="as_measured"')
            assert of(metrics(program), "edgeward_recalibrations_total") == 0
            slow_file.touch()
            wait_until(program, "edgeward_backend_switches_total")
            after = callers.answered
            while callers.answered < after + 50 and not callers.failures:
                time.sleep(0.05)
        told = metrics(program)
    assert callers.failures == []
    assert of(told, "edgeward_requests_succeeded_total", 'model="fake"') == callers.answered
    assert of(told, "edgeward_requests_failed_total") == 0
    assert of(told, "edgeward_recalibrations_total", 'reason="slower"', 'outcome="switched"') == 1
    assert of(told, "edgeward_recalibrations_total") == 1
    assert of(told, "edgeward_latency_verdicts_total", 'verdict="slower"') >= 3, "it has to last"
    (switch,) = [name for name in told if name.startswith("edgeward_backend_switches_total")]
    assert 'from="only.onnx on drill-first, 1 thread"' in switch
    assert 'to="only.onnx on drill-second, 1 thread"' in switch
    assert 'reason="measured_again"' in switch
    assert of(told, "edgeward_backend_info", 'backend="drill-second"') == 1
    log = (home / "serve.log").read_text()
    assert "was measured to take; measuring again" in log
    assert "only.onnx on drill-second, 1 thread took over from only.onnx on drill-first, 1 thread" in log
