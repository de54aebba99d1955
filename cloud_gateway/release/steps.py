"""What comes next in a release: numbers in, a decision with its reason out. Pure; the controller carries it out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cloud_gateway.guards import Action, Verdict
from cloud_gateway.release.plan import ReleasePlan, Strategy
from cloud_gateway.release.state import ReleaseState, Status
from runtime.errors import ConflictError, InvalidInputError


class Move(StrEnum):
    """What is to be done."""

    HOLD = "hold"
    ADVANCE = "advance"
    PROMOTE = "promote"
    """All traffic to the candidate."""
    FINISH = "finish"
    """Stable need not stay warm any longer."""
    COMPLETE = "complete"
    """The shadow has seen enough."""
    ROLLBACK = "rollback"


class HoldCause(StrEnum):
    """What a release that holds waits for."""

    EVIDENCE = "evidence"
    TIME = "time"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Decision:
    """A move, the state after it, and why."""

    move: Move
    state: ReleaseState
    cause: HoldCause | None = None
    """Of a hold."""
    needed: int | None = None
    """Requests still needed, where it holds for lack of evidence."""

    @property
    def reason(self) -> str:
        """Why."""
        return self.state.reason


def begin(plan: ReleasePlan) -> ReleaseState:
    """The state that a release starts in, once both versions are warm."""
    if plan.strategy is Strategy.SHADOW:
        return ReleaseState(Status.RUNNING, 0.0, 0, reason="started: the candidate answers beside stable, unseen")
    if plan.share(0) == 1.0:
        return ReleaseState(Status.SETTLING, 1.0, 0, reason="started: all traffic is switched to the candidate")
    return ReleaseState(
        Status.RUNNING, plan.share(0), 0, reason=f"started: stage 1 of {len(plan.stages)}, {_percent(plan.share(0))}"
    )


def next_step(
    plan: ReleasePlan, state: ReleaseState, verdict: Verdict, candidate_failure: str | None = None
) -> Decision:
    """What follows from the guards' verdict and the time in the stage.

    `candidate_failure`: why the candidate cannot answer at all; that alone rolls back. Nothing ever advances, and no release
    ends well, for want of traffic.
    """
    if candidate_failure is not None:
        return _roll_back(state, f"the candidate failed: {candidate_failure}")
    if verdict.action is Action.ROLLBACK:
        return _roll_back(state, verdict.reason)
    if state.status is Status.PAUSED:
        return _hold(HoldCause.PERSON, state, "paused; resume, promote, abort or roll back by hand", verdict.needed)
    if state.status is Status.SETTLING:
        return _settle(plan, state, verdict)
    if verdict.action is Action.HOLD:
        return _hold(HoldCause.EVIDENCE, state, _wanting(verdict), verdict.needed)
    left_s = plan.hold_s - state.in_stage_s
    if left_s > 0:
        return _hold(
            HoldCause.TIME, state, f"the guards would advance ({verdict.reason}); the stage has {left_s:.0f} s to go"
        )
    if plan.strategy is Strategy.SHADOW:
        return Decision(Move.COMPLETE, replace(state, status=Status.COMPLETED, reason=verdict.reason))
    following = next((at for at in range(len(plan.stages)) if plan.share(at) > state.share), len(plan.stages) - 1)
    if plan.share(following) == 1.0:
        if plan.promote_by_hand:
            return _hold(
                HoldCause.PERSON,
                state,
                f"the guards would promote ({verdict.reason}); the plan leaves that to a person",
            )
        return Decision(Move.PROMOTE, promoted(plan, verdict.reason))
    return Decision(Move.ADVANCE, ReleaseState(Status.RUNNING, plan.share(following), following, 0.0, verdict.reason))


def _settle(plan: ReleasePlan, state: ReleaseState, verdict: Verdict) -> Decision:
    """All traffic is on the candidate: it is over when stable has been warm for long enough, and the guards have their proof."""
    left_s = plan.keep_warm_s - state.in_stage_s
    if verdict.action is Action.HOLD:
        cause, until = HoldCause.EVIDENCE, "stable stays warm"
        if left_s > 0:
            cause, until = HoldCause.TIME, f"stable stays warm for {left_s:.0f} s more"
        why = f"all traffic is on the candidate; {until}; {_wanting(verdict)}"
        return _hold(cause, state, why, verdict.needed)
    if left_s > 0:
        why = f"all traffic is on the candidate; stable stays warm for {left_s:.0f} s more ({verdict.reason})"
        return _hold(HoldCause.TIME, state, why)
    why = f"{verdict.reason}, with all traffic on the candidate for {state.in_stage_s:.0f} s"
    return Decision(Move.FINISH, replace(state, status=Status.PROMOTED, reason=why))


def _wanting(verdict: Verdict) -> str:
    """Why the guards hold, with the number of requests that they need, said once."""
    if verdict.needed is None or f"{verdict.needed:,}" in verdict.reason:
        return verdict.reason
    return f"{verdict.reason}; about {verdict.needed:,} requests more"


def promoted(plan: ReleasePlan, reason: str) -> ReleaseState:
    """All traffic on the candidate, stable still warm."""
    return ReleaseState(Status.SETTLING, 1.0, max(len(plan.stages) - 1, 0), 0.0, reason)


class Command(StrEnum):
    """What a person may ask of a release that runs."""

    PROMOTE = "promote"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"

    @property
    def to_do(self) -> str:
        """As a verb: roll back."""
        return "roll back" if self is Command.ROLLBACK else self.value

    @property
    def done(self) -> str:
        """As something that was done: rolled back."""
        return _DONE[self]


_DONE: Final = {
    Command.PROMOTE: "promoted",
    Command.PAUSE: "paused",
    Command.RESUME: "resumed",
    Command.ABORT: "aborted",
    Command.ROLLBACK: "rolled back",
}


def obey(
    plan: ReleasePlan, state: ReleaseState, command: Command, why: str, to_percent: float | None = None
) -> ReleaseState:
    """The state after a person's command; `ConflictError` where it makes no sense now.

    `to_percent`: with `promote`, the candidate's share from now on, up or down; None: all of the traffic.
    """
    said = f"{command.done} by hand" + (f": {why}" if why else "")
    if not state.status.is_alive:
        has_won = state.status is Status.PROMOTED and command in (Command.ABORT, Command.ROLLBACK)
        back = f"; the way back is a release: stable = {plan.candidate}, candidate = {plan.stable}" if has_won else ""
        raise ConflictError(
            f"release of {plan.model!r} is {state.status.words} ({state.reason}); there is nothing to {command.to_do}{back}"
        )
    if to_percent is not None and command is not Command.PROMOTE:
        raise InvalidInputError(f"{command} takes no percentage; only promote does")
    match command:
        case Command.ABORT:
            return replace(state, status=Status.ABORTED, share=0.0, reason=said)
        case Command.ROLLBACK:
            return replace(state, status=Status.ROLLED_BACK, share=0.0, reason=said)
        case Command.PAUSE:
            if state.status is not Status.RUNNING:
                raise ConflictError(f"release of {plan.model!r} is {state.status.words}; only a running one is paused")
            return replace(state, status=Status.PAUSED, reason=said)
        case Command.RESUME:
            if state.status is not Status.PAUSED:
                raise ConflictError(f"release of {plan.model!r} is {state.status.words}; only a paused one is resumed")
            return replace(state, status=Status.RUNNING, reason=said)
        case Command.PROMOTE:
            return _promote_to(plan, state, said, 100.0 if to_percent is None else to_percent)


def _promote_to(plan: ReleasePlan, state: ReleaseState, said: str, percent: float) -> ReleaseState:
    if plan.strategy is Strategy.SHADOW:
        raise ConflictError(
            f"release of {plan.model!r} is a shadow: it moves no traffic; abort it, and start a canary or a blue-green release"
        )
    if not 0 < percent <= 100:
        raise InvalidInputError(f"percentage {percent:g} is none; expected one over 0 and up to 100")
    if percent == 100.0:
        if state.status is not Status.SETTLING:
            return promoted(plan, said)
        if state.in_stage_s < plan.keep_warm_s:
            raise ConflictError(
                f"the candidate of {plan.model!r} has all of the traffic already; in {plan.keep_warm_s - state.in_stage_s:.0f} s, "
                "when stable need not stay warm any longer, promote ends the release without waiting for the guards"
            )
        return replace(state, status=Status.PROMOTED, reason=f"{said}, without waiting for the guards: {state.reason}")
    stage = max((at for at in range(len(plan.stages)) if plan.stages[at] <= percent), default=0)
    status = Status.RUNNING if state.status is Status.SETTLING else state.status
    return ReleaseState(status, percent / 100, stage, 0.0, f"{said}, to {percent:g} %")


def _roll_back(state: ReleaseState, reason: str) -> Decision:
    return Decision(Move.ROLLBACK, replace(state, status=Status.ROLLED_BACK, share=0.0, reason=reason))


def _hold(cause: HoldCause, state: ReleaseState, reason: str, needed: int | None = None) -> Decision:
    return Decision(Move.HOLD, replace(state, reason=reason), cause, needed)


def _percent(share: float) -> str:
    return f"{share * 100:g} % of the traffic"
