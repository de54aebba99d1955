"""Interleaved measurements: in every round each contestant is asked once on each number of connections, in a new order.

What the machine does meanwhile hits all of them alike. Servers stay up between rounds but are suspended while another is measured,
so that each has the machine to itself and the load.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.environment import ROOT
from benchmarks.serving.contestants import Contestant, port_of
from benchmarks.serving.exchange import WrongAnswerError
from benchmarks.serving.h2load import LoadError, drive, drive_open
from benchmarks.serving.process import ServerProcess, StartError, free_ports
from benchmarks.serving.reasons import publishable

CONNECTIONS = (1, 8, 32)
# Until a server's speed is flat: caches, the JIT of allocators, threads that start with the first requests.
WARM_UP_S = 1.0
RAW = "raw session.run"
# Of the median rate on the middle number of connections.
OPEN_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int = 5
    seconds: float = 3.0
    connections: tuple[int, ...] = CONNECTIONS
    seed: int = 0
    has_raw: bool = True
    """Whether rows a second of `session.run` are measured too."""
    open_rounds: int = 0
    """After the closed rounds, so many at `OPEN_SHARE` of each one's own saturated rate."""


@dataclass(frozen=True, slots=True)
class OpenSample:
    """One contestant at a fixed rate."""

    contestant: str
    round: int
    asked_per_s: float
    per_s: float
    """As the latencies, see `h2load.OpenResult`."""
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One contestant in one round on so many connections."""

    contestant: str
    round: int
    connections: int
    per_s: float
    cpu_s_per_1000: float | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """All samples in the order they were taken, and who is missing or fell out, with the reason."""

    samples: tuple[Sample, ...]
    missing: dict[str, str]
    at_fixed_rate: tuple[OpenSample, ...] = ()
    raw_batch: int | None = None
    """Rows of each `session.run` of `RAW`: the number that cost the least CPU time a row. None: not measured."""
    was_stopped: bool = False
    """Somebody ended it early (Ctrl-C); what was measured is here."""


Progress = Callable[[str, float], None]


def measure(contestants: Sequence[Contestant], model: Path, plan: Plan, logs: Path, progress: Progress) -> Outcome:
    """Measures everybody; who does not start, answers wrongly or loses requests is named in `missing` and left out from there on.

    Ends every process it started, whatever happens. On Ctrl-C what was measured is returned; when that is nothing, it goes on up.
    """
    with _Rounds(plan, model, logs, progress) as rounds:
        was_stopped = False
        try:
            rounds.closed(contestants)
            rounds.at_fixed_rate()
        except KeyboardInterrupt:
            if not rounds.samples:
                raise
            was_stopped = True
    return Outcome(tuple(rounds.samples), rounds.missing, tuple(rounds.open_samples), rounds.raw_batch, was_stopped)


class _Rounds:
    """What was measured so far, and the servers that stand."""

    def __init__(self, plan: Plan, model: Path, logs: Path, progress: Progress) -> None:
        self.samples: list[Sample] = []
        self.open_samples: list[OpenSample] = []
        self.missing: dict[str, str] = {}
        self.raw_batch: int | None = None
        self._plan, self._model, self._logs, self._progress = plan, model, logs, progress
        self._chance = random.Random(plan.seed)
        self._order: list[Contestant] = []
        self._standing: dict[str, _Standing] = {}
        self._stack = ExitStack()

    def closed(self, contestants: Sequence[Contestant]) -> None:
        """Every round, each contestant as often as it can answer."""
        self._order, plan = list(contestants), self._plan
        steps, done = plan.rounds * (len(self._order) + 1), 0
        for number in range(plan.rounds):
            self._progress(f"round {number + 1}: {RAW}", done / steps)
            if plan.has_raw:
                told = _raw(self._model, plan.seconds, self.raw_batch)
                self.raw_batch = int(told["batch"])
                self.samples.append(Sample(RAW, number, 1, told["rows_per_s"], told["cpu_s_per_1000"], None))
            done += 1
            self._chance.shuffle(self._order)
            for contestant in self._order:
                self._progress(f"round {number + 1}: {contestant.name}", done / steps)
                done += 1
                if contestant.name not in self.missing:
                    with self._naming(contestant.name):
                        self._one(contestant, number)

    def at_fixed_rate(self) -> None:
        """Then, of those who stand, latency at a share of their own rate."""
        plan = self._plan
        for number in range(plan.open_rounds):
            self._chance.shuffle(self._order)
            for name in (each.name for each in self._order if each.name in self._standing):
                if name in self.missing:
                    continue
                self._progress(f"fixed rate {number + 1}: {name}", 1.0)
                with self._naming(f"{name} at a fixed rate"):
                    rate = _saturated_per_s(self.samples, name, plan)
                    self.open_samples.append(self._standing[name].measure_open(number, plan, rate))

    def _one(self, contestant: Contestant, number: int) -> None:
        if contestant.is_restless:
            with _Standing(contestant, self._logs) as here:
                self.samples += here.measure(number, self._plan)
            return
        if contestant.name not in self._standing:
            self._standing[contestant.name] = self._stack.enter_context(_Standing(contestant, self._logs))
        self.samples += self._standing[contestant.name].measure(number, self._plan)

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Whoever fails is missing from there on, with the reason."""
        try:
            yield
        except (StartError, WrongAnswerError, LoadError, subprocess.TimeoutExpired, OSError) as error:
            self.missing[name] = publishable(str(error))

    def __enter__(self) -> _Rounds:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


def _saturated_per_s(samples: Sequence[Sample], name: str, plan: Plan) -> float:
    middle = plan.connections[len(plan.connections) // 2]
    return median(s.per_s for s in samples if s.contestant == name and s.connections == middle)


class _Standing:
    """A contestant's server, up and checked; suspended but for its own turns."""

    def __init__(self, contestant: Contestant, logs: Path) -> None:
        self._contestant = contestant
        ports = free_ports(2)
        self._port = port_of(contestant, ports)
        log = logs / f"{contestant.name.replace(' ', '-')}.log"
        self._server = ServerProcess(contestant.launch(*ports), log)
        try:
            self._server.wait_until(self._check, contestant.start_timeout_s)
        except BaseException:
            self._server.close()
            raise
        self._pause()

    def measure(self, number: int, plan: Plan) -> list[Sample]:
        """Its samples of one round; right answers are checked before and after."""
        contestant, server = self._contestant, self._server
        samples: list[Sample] = []
        with self._turn():
            reply_bytes = self._check()
            for connections in plan.connections:
                drive(contestant.exchange, self._port, connections, WARM_UP_S, reply_bytes)
                before_s = server.cpu_s()
                result = drive(contestant.exchange, self._port, connections, plan.seconds, reply_bytes)
                cpu_s = (server.cpu_s() - before_s) / result.requests * 1000
                samples.append(Sample(contestant.name, number, connections, result.per_s, cpu_s, server.memory_bytes()))
            self._check()
        return samples

    def measure_open(self, number: int, plan: Plan, saturated_per_s: float) -> OpenSample:
        """Latency at `OPEN_SHARE` of what it can."""
        rate = OPEN_SHARE * saturated_per_s
        with self._turn():
            reply_bytes = self._check()
            drive_open(self._contestant.exchange, self._port, rate, WARM_UP_S, reply_bytes)
            told = drive_open(self._contestant.exchange, self._port, rate, plan.seconds, reply_bytes)
        return OpenSample(self._contestant.name, number, told.asked_per_s, told.per_s, told.p50_ms, told.p99_ms)

    def _check(self) -> int:
        return self._contestant.exchange.check(self._port)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """It runs within, and not after, also where it fails: then it would take processor time from everybody else."""
        self._server.resume()
        try:
            yield
        finally:
            self._pause()

    def _pause(self) -> None:
        if not self._contestant.is_restless:
            time.sleep(0.1)  # connections of the load are closing
            self._server.suspend()

    def __enter__(self) -> _Standing:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()


def _raw(model: Path, seconds: float, batch: int | None) -> dict[str, float]:
    """What `raw_session` prints; `batch` None: it looks for the best size first."""
    command = [sys.executable, "-m", "benchmarks.serving.raw_session", str(model), f"{seconds:g}"]
    if batch is not None:
        command.append(str(batch))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds * 3 + 60, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told
