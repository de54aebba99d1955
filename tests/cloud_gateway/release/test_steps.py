"""What comes next: every verdict in every status, time, and the commands of people."""

from dataclasses import replace

import pytest

from cloud_gateway.guards import Verdict
from cloud_gateway.release.plan import ReleasePlan, parse_plan
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.steps import Command, HoldCause, Move, begin, next_step, obey
from runtime.errors import ConflictError, InvalidInputError
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, ROLLBACK
from tests.cloud_gateway.release.test_plan import LEAST

CANARY = parse_plan(LEAST + "hold_s = 60\nkeep_warm_s = 100")
BY_HAND = parse_plan(LEAST + "hold_s = 0\npromote_by_hand = true")
SHADOW = parse_plan(LEAST + 'strategy = "shadow"\nhold_s = 60')
BLUE_GREEN = parse_plan(LEAST + 'strategy = "blue_green"\nkeep_warm_s = 100')


def walk(plan: ReleasePlan, verdict: Verdict, *, each_s: float = 60.0) -> list[tuple[Move, float]]:
    """The moves and shares until it ends or holds."""
    state, moves = begin(plan), []
    for _ in range(20):
        decision = next_step(plan, replace(state, in_stage_s=state.in_stage_s + each_s), verdict)
        moves.append((decision.move, decision.state.share))
        state = decision.state
        if decision.move is Move.HOLD or not state.status.is_alive:
            break
    return moves


def test_a_canary_goes_stage_by_stage_and_keeps_stable_warm() -> None:
    assert walk(CANARY, ADVANCE) == [
        (Move.ADVANCE, 0.05),
        (Move.ADVANCE, 0.1),
        (Move.ADVANCE, 0.25),
        (Move.ADVANCE, 0.5),
        (Move.PROMOTE, 1.0),
        (Move.HOLD, 1.0),
    ]
    settling = ReleaseState(Status.SETTLING, 1.0, 5, 100.0)
    done = next_step(CANARY, settling, ADVANCE)
    assert (done.move, done.state.status) == (Move.FINISH, Status.PROMOTED)


@pytest.mark.parametrize(
    ("in_stage_s", "verdict", "cause"),
    [(99.0, ADVANCE, HoldCause.TIME), (99.0, HOLD, HoldCause.TIME), (1e9, HOLD, HoldCause.EVIDENCE)],
)
def test_all_traffic_on_the_candidate_is_no_proof(in_stage_s: float, verdict: Verdict, cause: HoldCause) -> None:
    decision = next_step(CANARY, ReleaseState(Status.SETTLING, 1.0, 5, in_stage_s), verdict)
    assert (decision.move, decision.cause, decision.needed) == (Move.HOLD, cause, verdict.needed)
    assert ("about 500 requests more" in decision.reason) is (verdict is HOLD)


def test_a_person_ends_a_release_that_waits_for_traffic_once_stable_need_not_stay() -> None:
    early, late = (ReleaseState(Status.SETTLING, 1.0, 5, at, "not enough evidence") for at in (99.0, 100.0))
    with pytest.raises(ConflictError, match="has all of the traffic already; in 1 s, when stable need not stay warm"):
        obey(CANARY, early, Command.PROMOTE, "")
    ended = obey(CANARY, late, Command.PROMOTE, "nobody asks")
    assert (ended.status, ended.share) == (Status.PROMOTED, 1.0)
    assert ended.reason == "promoted by hand: nobody asks, without waiting for the guards: not enough evidence"


def test_it_holds_for_time_and_says_how_long() -> None:
    decision = next_step(CANARY, replace(begin(CANARY), in_stage_s=20.0), ADVANCE)
    assert (decision.move, decision.cause) == (Move.HOLD, HoldCause.TIME)
    assert "40 s to go" in decision.reason


@pytest.mark.parametrize("in_stage_s", [0.0, 1e9])
def test_without_evidence_it_never_advances_and_says_what_is_needed(in_stage_s: float) -> None:
    decision = next_step(CANARY, replace(begin(CANARY), in_stage_s=in_stage_s), HOLD)
    assert (decision.move, decision.cause, decision.needed) == (Move.HOLD, HoldCause.EVIDENCE, 500)
    assert "500 requests more" in decision.reason
    assert decision.state.share == 0.01


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PAUSED, Status.SETTLING])
def test_harm_rolls_back_from_anywhere(status: Status) -> None:
    state = ReleaseState(status, 0.5, 3, 0.0)
    for decision in (next_step(CANARY, state, ROLLBACK), next_step(CANARY, state, ADVANCE, "it crashed")):
        assert (decision.move, decision.state.status, decision.state.share) == (Move.ROLLBACK, Status.ROLLED_BACK, 0.0)
    assert "it crashed" in decision.reason


def test_paused_stays() -> None:
    decision = next_step(CANARY, ReleaseState(Status.PAUSED, 0.25, 3, 1e9), ADVANCE)
    assert (decision.move, decision.cause, decision.state.share) == (Move.HOLD, HoldCause.PERSON, 0.25)


def test_a_person_promotes_where_the_plan_says_so() -> None:
    moves = walk(BY_HAND, ADVANCE)
    assert moves[-1] == (Move.HOLD, 0.5)
    state = ReleaseState(Status.RUNNING, 0.5, 4, 60.0)
    assert next_step(BY_HAND, state, ADVANCE).cause is HoldCause.PERSON
    assert obey(BY_HAND, state, Command.PROMOTE, "").share == 1.0


def test_a_shadow_moves_no_traffic() -> None:
    assert walk(SHADOW, ADVANCE) == [(Move.COMPLETE, 0.0)]
    with pytest.raises(ConflictError, match="is a shadow: it moves no traffic"):
        obey(SHADOW, begin(SHADOW), Command.PROMOTE, "")


def test_blue_green_switches_at_once() -> None:
    state = begin(BLUE_GREEN)
    assert (state.status, state.share) == (Status.SETTLING, 1.0)
    assert obey(BLUE_GREEN, state, Command.ROLLBACK, "").share == 0.0
    half = obey(BLUE_GREEN, state, Command.PROMOTE, "", 50.0)
    assert (half.status, half.share) == (Status.RUNNING, 0.5)


def test_a_share_by_hand_goes_on_from_there() -> None:
    state = obey(CANARY, begin(CANARY), Command.PROMOTE, "in a hurry", 30.0)
    assert (state.share, state.stage, state.in_stage_s) == (0.3, 3, 0.0)
    assert "in a hurry" in state.reason
    assert next_step(CANARY, replace(state, in_stage_s=60), ADVANCE).state.share == 0.5


@pytest.mark.parametrize("percent", [0.0, -1.0, 101.0, float("nan")])
def test_percentages_that_are_none(percent: float) -> None:
    with pytest.raises(InvalidInputError, match="expected one over 0"):
        obey(CANARY, begin(CANARY), Command.PROMOTE, "", percent)


def test_commands_that_make_no_sense_now() -> None:
    running = begin(CANARY)
    paused = obey(CANARY, running, Command.PAUSE, "")
    assert obey(CANARY, paused, Command.RESUME, "").status is Status.RUNNING
    with pytest.raises(ConflictError, match="only a paused one"):
        obey(CANARY, running, Command.RESUME, "")
    with pytest.raises(ConflictError, match="only a running one"):
        obey(CANARY, paused, Command.PAUSE, "")
    with pytest.raises(InvalidInputError, match="only promote does"):
        obey(CANARY, running, Command.PAUSE, "", 5.0)
    ended = obey(CANARY, running, Command.ABORT, "")
    for command in Command:
        with pytest.raises(ConflictError, match="nothing to"):
            obey(CANARY, ended, command, "")


def test_commands_and_states_are_said_in_words() -> None:
    rolled_back = obey(CANARY, begin(CANARY), Command.ROLLBACK, "complaints")
    assert rolled_back.reason == "rolled back by hand: complaints"
    with pytest.raises(
        ConflictError, match=r"is rolled back \(rolled back by hand: complaints\); there is nothing to roll back"
    ):
        obey(CANARY, rolled_back, Command.ROLLBACK, "")
    for command in Command:
        assert "_" not in command.to_do + command.done


def test_who_would_take_a_promoted_version_back_is_told_how() -> None:
    won = replace(begin(CANARY), status=Status.PROMOTED)
    way_back = f"the way back is a release: stable = {CANARY.candidate}, candidate = {CANARY.stable}"
    for command in Command:
        with pytest.raises(ConflictError) as raised:
            obey(CANARY, won, command, "")
        assert (way_back in str(raised.value)) is (command in (Command.ABORT, Command.ROLLBACK))


def test_large_numbers_of_requests_are_said_once_and_can_be_read() -> None:
    reason = next_step(CANARY, begin(CANARY), replace(HOLD, needed=800_000)).reason
    assert reason.endswith("; about 800,000 requests more")
    said = replace(HOLD, needed=800_000, reason="about 800,000 requests more are needed")
    assert next_step(CANARY, begin(CANARY), said).reason == said.reason
