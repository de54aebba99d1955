"""Guards that say what a test tells them, versions that do, a clock that it sets, and a webhook that keeps what it is to post."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from cloud_gateway.guards import (
    Action,
    AnyObservation,
    Arm,
    BadPredictions,
    Finding,
    GuardSettings,
    GuardWatch,
    Observation,
    Verdict,
)
from cloud_gateway.release.events import Webhook
from runtime.tensors import Array, TensorSpec


def verdict(
    action: Action, reason: str = "as told", needed: int | None = None, bad: BadPredictions | None = None
) -> Verdict:
    finding = Finding("error_rate", "", "fake", 10, 10, 0.1, 0.2, 0.1, 0.0, 0.2, 1.0, 1.0, 0.05, reason, bad)
    return Verdict(action, reason, (finding,), needed)


HOLD = verdict(Action.HOLD, "no evidence yet", 500)
ADVANCE = verdict(Action.ADVANCE, "within the margin")
ROLLBACK = verdict(Action.ROLLBACK, "too many errors", bad=BadPredictions(12.0, 31.0))


class FakeWatch(GuardWatch):
    """Says `says`, whatever it sees; remembers what it saw, and how often it was asked for a whole verdict."""

    says: ClassVar[Verdict] = HOLD

    def __init__(
        self, guards: Sequence[GuardSettings], alpha: float, planned_share: float, paired_share: float = 1.0
    ) -> None:
        self.seen: list[AnyObservation] = []
        self.judged = 0
        self.shares = [planned_share]
        self.counts = {str(arm): 0 for arm in Arm}

    def observe(self, observation: AnyObservation) -> None:
        self.seen.append(observation)
        if isinstance(observation, Observation):
            self.counts[str(observation.arm)] += 1

    @property
    def action(self) -> Action:
        return type(self).says.action

    def judge(self) -> Verdict:
        self.judged += 1
        return type(self).says

    def start_stage(self, planned_share: float, paired_share: float = 1.0) -> None:
        self.shares.append(planned_share)

    def to_state(self) -> dict[str, Any]:
        return {"shares": self.shares, "counts": self.counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        made = cls((), 0.05, 0.0)
        made.shares = list(state["shares"])
        made.counts = dict(state["counts"])
        return made


class FakeVersion:
    """Answers with what it is asked, once `on_run` has returned: told its name and how many rows there are."""

    def __init__(
        self, name: str, on_run: Callable[[str, int], object] = lambda *_: None, shape: tuple[int, ...] = (-1, 2)
    ) -> None:
        self.name = name
        self.inputs = [TensorSpec("x", "FP32", shape)]
        self.outputs = [TensorSpec("y", "FP32", shape)]
        self.bundle = SimpleNamespace(manifest=None)
        self._on_run = on_run

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._on_run(self.name, len(inputs["x"]))
        return {"y": inputs["x"]}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Posted(Webhook):
    """Keeps what it is to post."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Mapping[str, Any]] = []

    def post(self, url: str, event: Mapping[str, Any]) -> None:
        self.events.append(event)
