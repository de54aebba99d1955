"""The course of one request: which arm is asked when, who is withdrawn, and whose answer stands. Pure and replayable.

    course = Course(opening)          # the rule, the request and both arms at one moment
    moves = course.open()             # Ask, Withdraw, Deliver, Give up
    moves = course.on(event)          # Answered, Failed, Due
    course.wake_at                    # when a `Due` is wanted; None: never

`flight.py` carries the moves out and reports events; `decision_log.py` writes both down and runs them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edge_agent.falling_back import after_failure, may_fall_back, retell
from edge_agent.hedging import hedge_at
from edge_agent.plan import Plan, Refusal, RequestFacts, Step, Why, failure_of
from edge_agent.routing import decide
from edge_agent.rules import Policy, Rule
from edge_agent.states import CloudState, LocalState
from runtime.errors import DeadlineExceededError, EdgewardError
from runtime.wire.values import Privacy, ServedBy

# A kept local answer goes out this long before the deadline, or a tenth of what is left: it still has its way to go.
DELIVERY_MARGIN_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything the course is decided on at its beginning."""

    rule: Rule
    facts: RequestFacts
    local: LocalState
    cloud: CloudState
    now: float


@dataclass(frozen=True, slots=True)
class Answered:
    """An arm answered; `confidence` is calibrated, None where there is no cascade or it cannot be told."""

    arm: ServedBy
    now: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An arm ended in an error."""

    arm: ServedBy
    now: float
    error: EdgewardError


@dataclass(frozen=True, slots=True)
class Due:
    """The time in `wake_at` may have come; `hedge_tokens` is what the hedges' budget holds."""

    now: float
    hedge_tokens: float


Event = Answered | Failed | Due


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the request to `step.arm`."""

    step: Step
    is_hedge: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Cancel what was sent to `arm`."""

    arm: ServedBy


@dataclass(frozen=True, slots=True)
class Deliver:
    """The answer of `step.arm` is the reply; the request is over."""

    step: Step


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request ends in `error`."""

    error: EdgewardError


Move = Ask | Withdraw | Deliver | GiveUp


class Course:
    """One request from its opening to one `Deliver` or `GiveUp`; see the module."""

    def __init__(self, opening: Opening) -> None:
        self.wake_at: float | None = None
        self._opening = opening
        self._plan = Plan(())
        self._running: dict[ServedBy, Step] = {}
        self._failures: list[tuple[ServedBy, EdgewardError]] = []
        self._kept: Step | None = None
        self._hedge_at: float | None = None
        self._since = opening.now

    def open(self) -> list[Move]:
        """The first moves: one arm is asked, or the request is refused at once."""
        rule, facts, local, cloud = self._opening.rule, self._opening.facts, self._opening.local, self._opening.cloud
        now = self._opening.now
        policy = Policy.EDGE_FIRST if rule.threshold is not None else rule.policy
        if rule.privacy is Privacy.LOCAL_ONLY:
            facts = replace(facts, privacy=rule.privacy)
        decision = decide(policy, facts, local, cloud, now)
        if isinstance(decision, Refusal):
            return [GiveUp(decision.error)]
        self._plan = decision
        first = decision.steps[0]
        if not facts.is_idempotent:  # nobody may stand in for it once it runs, so it gets all of the time
            first = replace(first, deadline=facts.deadline)
        elif rule.hedge:
            self._hedge_at = hedge_at(decision, local, cloud, now)
        return self._ask(first, now)

    def on(self, event: Event) -> list[Move]:
        """What follows from `event`; nothing once the request is over."""
        if isinstance(event, Due):
            moves = self._on_due(event)
        elif event.arm not in self._running:
            moves = []
        elif isinstance(event, Answered):
            moves = self._on_answer(self._running.pop(event.arm), event)
        else:
            moves = self._on_failure(self._running.pop(event.arm), event)
        if any(isinstance(move, Deliver | GiveUp) for move in moves):
            self.wake_at = None
        return moves

    def is_hedge_due(self, now: float) -> bool:
        """Whether a `Due` at `now` would ask the other arm, were there a token."""
        return self._hedge_at is not None and now >= self._hedge_at and len(self._running) == 1

    def _on_answer(self, step: Step, event: Answered) -> list[Move]:
        threshold = self._opening.rule.threshold
        if step.arm is ServedBy.CLOUD or threshold is None or event.confidence is None or self._opening_is_forced():
            return self._deliver(step)
        said = f"confidence {event.confidence:.4f}"
        if event.confidence >= threshold:
            if step.why is Why.FIRST_CHOICE:
                step = Step(step.arm, Why.CONFIDENT, f"{said} clears {threshold:.4f}", step.deadline)
            return self._deliver(step)
        said += f" is under {threshold:.4f}" if threshold <= 1 else ", and none is enough for the wished-for risk"
        self._kept = Step(step.arm, Why.UNSURE_ALONE, said, step.deadline)
        # Early enough for the local answer to stand in, should the cloud say nothing.
        deadline = self._opening.facts.deadline
        deadline -= min(DELIVERY_MARGIN_S, max(deadline - event.now, 0.0) / 10)
        if ServedBy.CLOUD in self._running:
            self._running[ServedBy.CLOUD] = Step(ServedBy.CLOUD, Why.UNSURE, f"{said}; answered by the cloud", deadline)
            self._plan_waking()
            return []
        # A local answer is better than a cloud that was too slow lately.
        may_ask = any(later.arm is ServedBy.CLOUD and not later.is_long_shot for later in self._plan.steps)
        if not may_ask or self._has_failed(ServedBy.CLOUD):
            return self._deliver_kept()
        return self._ask(Step(ServedBy.CLOUD, Why.UNSURE, f"{said}; answered by the cloud", deadline), event.now)

    def _on_failure(self, step: Step, event: Failed) -> list[Move]:
        self._failures.append((step.arm, event.error))
        if self._kept is not None:
            return self._deliver_kept()
        if self._running:  # the other one may still answer, and then says why
            arm, other = next(iter(self._running.items()))
            if may_fall_back(step.arm, event.error):
                text = f"{step.arm} failed: {event.error}; answered by the {arm}"
                self._running[arm] = Step(arm, failure_of(step.arm), text, other.deadline)
                return []
            del self._running[arm]
            return [Withdraw(arm), GiveUp(event.error)]
        following = after_failure(
            self._plan, step, event.error, event.now, is_idempotent=self._opening.facts.is_idempotent
        )
        if following is not None and not self._has_failed(following.arm):
            return self._ask(following, event.now)
        if len(self._failures) == 1 and not may_fall_back(step.arm, event.error):
            return [GiveUp(event.error)]
        return [GiveUp(retell(self._failures, self._plan.left_out))]

    def _on_due(self, event: Due) -> list[Move]:
        self.wake_at = None
        if not self._running:
            return []
        if self.is_hedge_due(event.now):
            self._hedge_at = None
            step = next(iter(self._running.values()))
            if event.hedge_tokens >= 1.0 and event.now < step.deadline:
                return self._ask_beside(step, event.now, is_hedge=True)
        late = [step for step in self._running.values() if event.now >= step.deadline]
        if len(self._running) == 1 and late and self._may_be_joined(late[0], event.now):
            return self._ask_beside(late[0], event.now)
        moves: list[Move] = []
        for step in late:
            waited_s = event.now - self._since
            text = f"no answer within {waited_s * 1e3:.0f} ms, when its time was up"
            moves.append(Withdraw(step.arm))
            moves += self.on(Failed(step.arm, event.now, DeadlineExceededError(text)))
        if not any(isinstance(move, Deliver | GiveUp) for move in moves):
            self._plan_waking()
        return moves

    def _may_be_joined(self, step: Step, now: float) -> bool:
        """Whether `step`, whose time is up, goes on beside the other arm: it was asked already, and may still win."""
        later = [other for other in self._plan.steps if other.arm is not step.arm]
        was_asked = bool(self._failures) or self._kept is not None
        return bool(later) and not was_asked and now < later[0].deadline

    def _ask_beside(self, step: Step, now: float, *, is_hedge: bool = False) -> list[Move]:
        other = next(later for later in self._plan.steps if later.arm is not step.arm)
        waited = f"took longer than {(now - self._opening.now) * 1e3:.3g} ms; the {other.arm} answered first"
        if step.why is not Why.TRIAL:
            why, text = Why.EDGE_LATE if step.arm is ServedBy.EDGE else Why.CLOUD_LATE, f"the {step.arm} {waited}"
        elif is_hedge:
            why, text = Why.BESIDE_TRIAL, f"asked at once beside a trial of the {step.arm}"
        else:
            why, text = Why.BESIDE_TRIAL, f"a trial of the {step.arm} {waited}"
        # The reserve that the first arm was to leave has found its use: both may take what is left.
        deadline = self._opening.facts.deadline
        self._running[step.arm] = replace(step, deadline=deadline)
        second = Step(other.arm, why, text, deadline)
        self._running[other.arm] = second
        self._plan_waking()
        return [Ask(second, is_hedge)]

    def _ask(self, step: Step, now: float) -> list[Move]:
        self._running[step.arm] = step
        self._since = now
        if self._failures or self._kept is not None:
            self._hedge_at = None  # the arm that was first has had its turn
        self._plan_waking()
        return [Ask(step)]

    def _deliver(self, step: Step) -> list[Move]:
        losers: list[Move] = [Withdraw(arm) for arm in self._running]
        self._running.clear()
        return [*losers, Deliver(step)]

    def _deliver_kept(self) -> list[Move]:
        assert self._kept is not None, "asked only where an answer is kept"
        stories = [f"{arm} failed: {error}" for arm, error in self._failures]
        stories += [str(one) for one in self._plan.left_out if one.arm is ServedBy.CLOUD]
        stories += [step.reason for step in self._plan.steps[1:] if step.is_long_shot and not stories]
        text = "; ".join([self._kept.reason, *stories, "the local answer stands in"])
        return self._deliver(Step(self._kept.arm, self._kept.why, text, self._kept.deadline))

    def _opening_is_forced(self) -> bool:
        """Whether the request itself said who answers."""
        return bool(self._plan.steps) and self._plan.steps[0].why is Why.ASKED_FOR

    def _has_failed(self, arm: ServedBy) -> bool:
        return any(failed is arm for failed, _ in self._failures)

    def _plan_waking(self) -> None:
        # The request's own deadline is kept by whoever is asked.
        times = [step.deadline for step in self._running.values() if step.deadline < self._opening.facts.deadline]
        if self._hedge_at is not None and len(self._running) == 1:
            times.append(self._hedge_at)
        self.wake_at = min(times, default=None)
