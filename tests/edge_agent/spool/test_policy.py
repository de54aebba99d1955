"""What the spool takes and lets go, and the clock that no jump can hurry."""

import pytest

from edge_agent.spool.policy import AWAKE_S, ClockState, SpoolClock, SpoolLimits, WhenFull, admit
from edge_agent.spool.retrying import MAX_ATTEMPTS, Outcome, after_error, pause_s
from runtime.errors import (
    BackendUnavailableError,
    ConflictError,
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    PeerFailedError,
    PeerUnreachableError,
)

WAITING = [(1, 30), (2, 30), (3, 30)]


def test_what_fits_is_taken_and_nothing_dropped() -> None:
    taken = admit(SpoolLimits(max_bytes=100), 90, 10, WAITING)
    assert (taken.is_taken, taken.drop) == (True, ())


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    refused = admit(SpoolLimits(max_bytes=100), 90, 11, WAITING)
    assert not refused.is_taken
    assert refused.reason == "the spool holds 90 of 100 bytes, and the request takes 11"


@pytest.mark.parametrize(("size", "dropped"), [(11, (1,)), (40, (1,)), (41, (1, 2)), (100, (1, 2, 3))])
def test_the_oldest_make_room_where_that_is_asked_for(size: int, dropped: tuple[int, ...]) -> None:
    limits = SpoolLimits(max_bytes=100, when_full=WhenFull.DROP_OLDEST)
    assert admit(limits, 90, size, WAITING).drop == dropped


def test_what_never_fits_drops_nobody() -> None:
    refused = admit(SpoolLimits(max_bytes=100, when_full=WhenFull.DROP_OLDEST), 90, 101, WAITING)
    assert (refused.is_taken, refused.drop) == (False, ())


class Clocks:
    def __init__(self, wall: float = 1000.0) -> None:
        self.wall = wall
        self.steady = 0.0

    def clock(self, kept: ClockState | None, gap_s: float = 100.0) -> SpoolClock:
        return SpoolClock(kept, gap_s, lambda: self.wall, lambda: self.steady)


@pytest.mark.parametrize("jump", [-1e9, -1.0, 1.0, 1e9])
def test_a_jump_of_the_wall_clock_while_the_agent_runs_changes_nothing(jump: float) -> None:
    clocks = Clocks()
    clock = clocks.clock(None)
    clocks.steady += 5
    clocks.wall += jump
    assert clock.now() == 5


@pytest.mark.parametrize(("off_s", "counted"), [(30, 30), (0, 0), (-1e9, 0), (1e9, 100)])
def test_time_off_counts_within_bounds(off_s: float, counted: float) -> None:
    clocks = Clocks()
    kept = clocks.clock(ClockState(50.0, 1000.0)).state()
    assert kept == ClockState(50.0, 1000.0)
    clocks.wall += off_s
    assert clocks.clock(kept).now() == 50 + counted


@pytest.mark.parametrize(("slept_s", "counted"), [(30, 30), (1000, 1000), (1e6, 1000)])
def test_sleep_counts_as_time_off_does(slept_s: float, counted: float) -> None:
    clocks = Clocks()
    clock = clocks.clock(None, gap_s=1000.0)
    clocks.steady += 5
    assert clock.now() == 5
    clocks.steady += slept_s
    assert clock.now() == clock.now() == 5 + counted
    assert clock.state().spool_s == 5 + counted


def test_ages_shorter_than_a_look_of_the_spool_are_counted_in_full() -> None:
    clocks = Clocks()
    clock = clocks.clock(None, gap_s=1.0)
    clocks.steady += AWAKE_S
    assert clock.now() == AWAKE_S


def told_by_both(first: EdgewardError, second: EdgewardError) -> EdgewardError:
    first.__cause__ = second
    return first


@pytest.mark.parametrize(
    "error",
    [
        PeerUnreachableError("away"),
        OverloadedError("full"),
        DeadlineExceededError("late"),
        ModelNotFoundError("not here"),
        told_by_both(ExecutionError("drill"), PeerUnreachableError("away")),
        told_by_both(PeerFailedError("x"), DeadlineExceededError("late")),
    ],
    ids=str,
)
def test_an_outage_is_waited_out(error: EdgewardError) -> None:
    assert after_error(error, 10_000) is Outcome.ASK_AGAIN


@pytest.mark.parametrize("error", [InvalidInputError("shape"), ConflictError("key")])
def test_what_the_request_itself_is_wrong_about_ends_it(error: EdgewardError) -> None:
    assert after_error(error, 0) is Outcome.GIVE_UP


@pytest.mark.parametrize(
    "error", [ExecutionError("broken"), PeerFailedError("broken"), BackendUnavailableError("gone")]
)
def test_a_request_that_breaks_every_engine_ends_after_some_attempts(error: EdgewardError) -> None:
    outcomes = [after_error(error, attempts) for attempts in range(MAX_ATTEMPTS)]
    assert outcomes == [Outcome.ASK_AGAIN] * (MAX_ATTEMPTS - 1) + [Outcome.GIVE_UP]


def test_pauses_grow_to_a_bound() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 5, 6, 100_000)] == [0.25, 0.5, 1.0, 4.0, 5.0, 5.0]
