"""A plan over a log of requests, without a gateway: the same split, guards and steps, on the log's own clock. Pure but for reading.

Each line is a JSON object, as `edgeward gateway run --request-log FILE` writes them. What a line leaves out is taken as said:

    {"at_s": 0.12, "key": "user-7", "segment": "de",             # else: 100 requests a second; a key of its own; no segment
     "model": "digits",                                          # lines of other models are left out; else: the plan's
     "stable":    {"error": false, "latency_ms": 3.1, "loss": 0},  # else: no error, 1 ms, no label
     "candidate": {"error": false, "latency_ms": 3.4, "loss": 1},  # else: as stable
     "agrees": true, "distance": 0.01,                           # of a shadow; else: they agree
     "metrics": {"revenue": 1.5}}                                # reported for whichever arm answered

"stable": null or "candidate": null: nobody knows what that version would have done; such a line is left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cloud_gateway.guards import (
    Arm,
    GuardWatch,
    LabelledObservation,
    MetricObservation,
    Observation,
    PairedObservation,
    Verdict,
)
from cloud_gateway.release.harm import Harm, harm
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.report import ReleaseCounts
from cloud_gateway.release.split import Segments, arm_at, name_of, place, random_place
from cloud_gateway.release.state import ReleaseState
from cloud_gateway.release.steps import Move, begin, next_step
from runtime.errors import InvalidInputError, WrongUseError

DEFAULT_GAP_S: Final = 0.01
_KEYS: Final = {"at_s", "model", "key", "segment", "stable", "candidate", "agrees", "distance", "metrics"}
TICK_S: Final = 0.2
"""How often a gateway decides, and so the simulation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one arm would have done with a request."""

    is_error: bool = False
    latency_s: float = 0.001
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One line of the log."""

    at_s: float
    key: str | None
    segment: str
    stable: Outcome
    candidate: Outcome
    agrees: bool = True
    distance: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    """Empty: the plan's."""
    is_known: bool = True
    """Whether it is known what both versions did."""
    tells_them_apart: bool = True
    """Whether the line says anything of the candidate, or it is only taken to do as stable."""


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """A decision on the way."""

    at_s: float
    requests: int
    """Of the log, until then."""
    move: Move
    state: ReleaseState


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a plan would have done with a log."""

    steps: tuple[SimulatedStep, ...]
    state: ReleaseState
    requests: int
    needed: int | None
    harm: Harm
    verdict: Verdict
    left_out: int = 0
    """Lines that say nothing of one version."""
    doubt: str = ""
    """Why nothing follows from it; empty: something does."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "steps": [
                {
                    "at_s": round(step.at_s, 3),
                    "requests": step.requests,
                    "move": str(step.move),
                    "status": str(step.state.status),
                    "share": step.state.share,
                    "reason": step.state.reason,
                }
                for step in self.steps
            ],
            "status": str(self.state.status),
            "share": self.state.share,
            "reason": self.state.reason,
            "requests": self.requests,
            "needed": self.needed,
            "left_out": self.left_out,
            "doubt": self.doubt,
            "harm": {**self.harm.to_dict(), "said": str(self.harm)},
            "verdict": self.verdict.to_dict(),
        }


def simulate(
    plan: ReleasePlan, requests: Iterable[LoggedRequest], watch_type: type[GuardWatch] = GuardWatch
) -> Simulation:
    """What the plan would have done. Ends with the log, or with the release.

    `InvalidInputError` where the log has lines of the model, and none says what both versions did.
    """
    run = _Run(plan, watch_type)
    began_s: float | None = None
    at_s, left_out, tells_them_apart = 0.0, 0, False
    for request in requests:
        if request.model and request.model != plan.model:
            continue
        if not request.is_known:
            left_out += 1
            continue
        began_s = request.at_s if began_s is None else began_s
        at_s = request.at_s - began_s
        run.look(at_s)
        if not run.state.status.is_alive:
            break
        tells_them_apart = tells_them_apart or request.tells_them_apart
        run.take(request)
    if left_out and not run.requests:
        raise InvalidInputError(
            f"no line of the log says what both versions of {plan.model!r} did with a request; {left_out:,} say it of one. "
            "A gateway writes such lines while a release with a [shadow] table runs, or one whose candidate has all of the traffic"
        )
    run.look(at_s + TICK_S)
    doubt = ""
    if run.requests and not tells_them_apart:
        doubt = "no line of the log says anything of the candidate, which was taken to do just as stable does: nothing follows"
    verdict = run.watch.judge()
    done = harm(run.counts, verdict)
    return Simulation(tuple(run.steps), run.state, run.requests, verdict.needed, done, verdict, left_out, doubt)


class _Run:
    """Feeds the guards and decides, as a gateway would."""

    def __init__(self, plan: ReleasePlan, watch_type: type[GuardWatch]) -> None:
        self.requests = 0
        self.counts = ReleaseCounts()
        self.state = begin(plan)
        self.steps = [SimulatedStep(0.0, 0, Move.HOLD, self.state)]
        self.watch = watch_type(plan.guards, plan.alpha, self.state.share, plan.paired_share(self.state.share))
        self._plan = plan
        self._decided_at = 0.0
        self._segments = Segments()
        self._salt = f"{plan.model}/simulated".encode()[:64]
        self._drawn = random.Random(plan.model)  # noqa: S311  (a sample, the same for the same log)

    def look(self, at_s: float) -> None:
        """Decides as often as a gateway would have until then."""
        while at_s - self._decided_at >= TICK_S and self.state.status.is_alive:
            # Nothing came meanwhile: over a long gap one look is as good as thousands.
            passed_s = max(TICK_S, (at_s - self._decided_at) // TICK_S * TICK_S)
            self._decided_at += passed_s
            before = replace(self.state, in_stage_s=self.state.in_stage_s + passed_s)
            decision = next_step(self._plan, before, self.watch.judge())
            if decision.move is not Move.HOLD:
                self.steps.append(SimulatedStep(self._decided_at, self.requests, decision.move, decision.state))
                share = decision.state.share
                if share != self.state.share and decision.state.status.is_alive:
                    self.watch.start_stage(share, self._plan.paired_share(share))
            self.state = decision.state

    def take(self, request: LoggedRequest) -> None:
        """One request of the log."""
        state = self.state
        self.requests += 1
        where = random_place() if request.key is None else place(self._salt, request.key)
        arm = arm_at(where, state.share)
        outcome = request.candidate if arm is Arm.CANDIDATE else request.stable
        segment = self._segments.of(request.segment or None)
        observed = Observation(arm, outcome.is_error, outcome.latency_s, name_of(where), segment)
        self.counts.arms[arm].observe(observed)
        if state.share > 0:
            self.watch.observe(observed)
        has_both = self._has_both(request, arm, state.share)
        if has_both:
            is_measured = state.share in (0.0, 1.0)
            self.watch.observe(
                PairedObservation(
                    request.agrees,
                    request.distance,
                    request.stable.latency_s if is_measured else None,
                    request.candidate.latency_s if is_measured else None,
                    request.candidate.is_error,
                    segment,
                    request.stable.is_error,
                )
            )
        stable_loss = request.stable.loss if arm is Arm.STABLE or has_both else None
        candidate_loss = request.candidate.loss if arm is Arm.CANDIDATE or has_both else None
        if stable_loss is not None or candidate_loss is not None:
            self.watch.observe(LabelledObservation(stable_loss, candidate_loss, segment))
        for name, value in request.metrics.items():
            self.watch.observe(MetricObservation(arm, name, value, segment))

    def _has_both(self, request: LoggedRequest, arm: Arm, share: float) -> bool:
        """Whether a gateway would have given it to the other version too."""
        if arm is Arm.CANDIDATE:
            return share == 1.0 and self._drawn.random() < self._plan.paired_share(share)
        return self._plan.shadow is not None and not request.stable.is_error


def read_logs(files: Sequence[Path]) -> Iterator[LoggedRequest]:
    """The requests of several logs, the earliest first; `WrongUseError` where one cannot be read.

    A gateway that is started again begins with its clock, too: it is taken to go on where the log before ended.
    """
    offset_s = end_s = 0.0
    for file in files:
        is_first = True
        try:
            with file.open(encoding="utf-8") as lines:
                for request in read_log(lines, str(file)):
                    if is_first and request.at_s + offset_s < end_s:
                        offset_s = end_s
                    is_first, end_s = False, request.at_s + offset_s
                    yield replace(request, at_s=end_s)
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUseError(f"log {file} cannot be read: {error}; check the path") from error


def one_before(files: Sequence[Path]) -> Path | None:
    """What a gateway wrote before the first of `files`, where that is beside it; None: nothing, or it is one of them."""
    before = files[0].with_name(f"{files[0].name}.1")
    return before if before.exists() and before not in files else None


def read_log(lines: Iterable[str], name: str = "the log") -> Iterator[LoggedRequest]:
    """The requests of one log; `InvalidInputError` names the line that is none."""
    at_s = 0.0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            request = _request(said, at_s)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(
                f"line {number} of {name} is no request: {error}; got {line.strip()!r:.120}"
            ) from None
        if request.at_s < at_s - DEFAULT_GAP_S:
            raise InvalidInputError(
                f"line {number} of {name} is at {request.at_s:g} s, before the one above it; sort them"
            )
        at_s = request.at_s + (0.0 if "at_s" in said else DEFAULT_GAP_S)
        yield request


def _request(said: Mapping[str, Any], at_s: float) -> LoggedRequest:
    unknown = set(said) - _KEYS
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}")
    stable = _outcome(said.get("stable") or {}, Outcome())
    return LoggedRequest(
        float(said.get("at_s", at_s)),
        None if said.get("key") is None else str(said["key"]),
        str(said.get("segment") or ""),
        stable,
        _outcome(said.get("candidate") or {}, stable),
        bool(said.get("agrees", True)),
        float(said.get("distance", 0.0)),
        {str(name): float(value) for name, value in said.get("metrics", {}).items()},
        str(said.get("model") or ""),
        said.get("stable", {}) is not None and said.get("candidate", {}) is not None,
        any(name in said for name in ("candidate", "agrees", "distance")),
    )


def _outcome(said: Mapping[str, Any], otherwise: Outcome) -> Outcome:
    unknown = set(said) - {"error", "latency_ms", "loss"}
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}")
    loss = said.get("loss", otherwise.loss)
    return Outcome(
        bool(said.get("error", otherwise.is_error)),
        float(said["latency_ms"]) / 1e3 if "latency_ms" in said else otherwise.latency_s,
        None if loss is None else float(loss),
    )
