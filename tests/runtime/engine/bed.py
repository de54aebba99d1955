"""A model on a backend whose variants can be made to go wrong, watched by a clock of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runtime.backends.base import RunOptions, Session
from runtime.bundle.bundle import Bundle
from runtime.engine.drift import MIN_CALLS
from runtime.engine.model import Model
from runtime.engine.own_load import Clocks
from runtime.engine.watch import LOOK_EVERY_S, Watch
from runtime.errors import BackendUnavailableError, ExecutionError
from runtime.selection.candidates import Candidate
from runtime.selection.choice import Choice, Ranked
from runtime.selection.cost import CostModel
from runtime.selection.latency import Latency
from runtime.selection.settings import Objective
from runtime.tensors import Array
from tests.runtime.selection.fakes import CLASSES, FakeBackend, FakeSession

X = np.eye(CLASSES, dtype=np.float32) + 1


@dataclass
class Lab(FakeBackend):
    """A backend whose variants can be made to go wrong, and which remembers what happened to them."""

    clock: Clock | None = None
    wrong: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    unopenable: set[str] = field(default_factory=set)
    takes_ms: dict[str, float] = field(default_factory=dict)
    waits_ms: float = 0.0
    """Of every call, while other threads of the process run."""
    calls: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    inside: Callable[[str], object] = lambda name: None

    def open(self, file: Path, options: RunOptions) -> Session:
        if file.name in self.unopenable:
            raise BackendUnavailableError("its device is gone")
        self.opened.append(file.name)
        return LabSession(self, file.name)


class LabSession(FakeSession):
    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__({})
        self._lab = lab
        self._name = name
        self._is_closed = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert not self._is_closed, "a session is closed when nothing runs on it any more"
        self._lab.calls.append(self._name)
        self._lab.inside(self._name)
        assert not self._is_closed, "a session is closed when nothing runs on it any more"
        if self._name in self._lab.broken:
            raise ExecutionError("operator Foo is not implemented")
        if self._lab.clock is not None:
            self._lab.clock.now_ns += int((self._lab.takes_ms.get(self._name, 1.0) + self._lab.waits_ms) * 1e6)
            self._lab.clock.waited_ns += int(self._lab.waits_ms * 1e6)
        return {"y": -inputs["x"] if self._name in self._lab.wrong else inputs["x"].copy()}

    def close(self) -> None:
        self._is_closed = True
        self._lab.closed.append(self._name)


@dataclass
class Clock:
    """A clock of ours; what passes is the calling thread's own work, but for `waited_ns` while the thread `other` ran."""

    now_ns: int = 1_000_000_000
    waited_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns

    @property
    def clocks(self) -> Clocks:
        return Clocks(self, lambda: self.now_ns - self.waited_ns, lambda: {7: self.waited_ns})


@dataclass
class Bed:
    """A model on the lab, its watch on a clock of ours, jobs run at once and here."""

    model: Model
    watch: Watch
    lab: Lab
    clock: Clock
    bundle: Bundle
    next_choice: list[Choice | Exception] = field(default_factory=list)
    """What measuring again gives, in turn."""
    measured: list[int] = field(default_factory=list)
    """When that was done."""

    def call(self, times: int = 1) -> None:
        for _ in range(times):
            self.model.predict(X)

    def call_for(self, seconds: float) -> None:
        end = self.clock.now_ns + seconds * 1e9
        while self.clock.now_ns < end:
            self.call()
            self.clock.now_ns += int(LOOK_EVERY_S * 1e9 / MIN_CALLS / 2)


def choice_of(bundle: Bundle, lab: FakeBackend, *names: str, agreement: float = 1.0, ms: float = 1.0) -> Choice:
    """The variants in this order, all `ms` a call of one row; four rows cost as much as one."""
    variants = {variant.name: variant for variant in bundle.variants}
    ranked = tuple(
        Ranked(
            Candidate(variants[name], lab, RunOptions(1)),
            Latency(ms, ms, 0.0, 9, 100),
            1,
            CostModel(((1, ms), (8, ms))),
            None,
            agreement,
            10.0,
            f"{name}: measured",
        )
        for name in names
    )
    return Choice(bundle.name, bundle.version, Objective.LATENCY, ranked, (), "agreement")


Make = Callable[..., Bed]
"""What the fixture `make` is."""
