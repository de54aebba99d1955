"""Decisions written down come out the same when they are decided again, and a changed line shows."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.course import Answered, Course, Due, Event, Failed, Move, Opening
from edge_agent.decision_log import DecisionLog, replay
from edge_agent.plan import RequestFacts
from edge_agent.rules import Policy, Rule
from edge_agent.states import NO_GATEWAY, CloudState, LocalState
from runtime.errors import (
    DeadlineExceededError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    PeerUnreachableError,
    WrongUseError,
)
from runtime.wire.values import Privacy, Route, ServedBy

NOW = 50.0
times = st.floats(NOW, NOW + 2, allow_nan=False)
seconds = st.none() | st.floats(0.0001, 3.0)
mishaps = st.sampled_from(
    [
        ExecutionError("it broke"),
        OverloadedError("full", 0.3),
        PeerUnreachableError("reset"),
        DeadlineExceededError("late"),
        InvalidInputError("shape"),
        ModelNotFoundError("none such"),
    ]
)
openings = st.builds(
    Opening,
    st.builds(
        Rule,
        st.sampled_from(Policy),
        st.sampled_from(Privacy),
        st.booleans(),
        st.none() | st.just(float("inf")) | st.floats(0, 1),
    ),
    st.builds(
        RequestFacts, st.sampled_from(Route), st.sampled_from(Privacy), st.floats(NOW - 0.1, NOW + 2), st.booleans()
    ),
    st.builds(
        LocalState,
        st.none() | mishaps,
        seconds,
        seconds,
        st.booleans(),
        st.sampled_from(["", "memory is short"]),
        st.floats(0, 5) | st.just(float("inf")),
        seconds,
    ),
    st.just(NO_GATEWAY)
    | st.builds(
        CloudState,
        st.just(True),
        st.booleans(),
        seconds,
        st.just("the breaker is open"),
        seconds,
        st.booleans(),
        seconds,
    ),
    st.just(NOW),
)
happenings = st.lists(
    st.builds(Answered, st.sampled_from(ServedBy), times, st.none() | st.floats(0, 1))
    | st.builds(Failed, st.sampled_from(ServedBy), times, mishaps)
    | st.builds(Due, times, st.floats(0, 3)),
    max_size=5,
)


def story(opening: Opening, events: list[Event]) -> list[tuple[Event | None, list[Move]]]:
    course = Course(opening)
    told: list[tuple[Event | None, list[Move]]] = [(None, course.open())]
    told += [(event, course.on(event)) for event in events]
    return told


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(opening=openings, events=happenings)
def test_whatever_happened_is_decided_the_same_again(tmp_path: Path, opening: Opening, events: list[Event]) -> None:
    file = tmp_path / "log"
    file.unlink(missing_ok=True)
    log = DecisionLog(file)
    log.write(opening, story(opening, events))
    log.close()
    assert replay(file) == (1, [])


START = Opening(
    Rule(Policy.CLOUD_FIRST),
    RequestFacts(Route.AUTO, Privacy.ANY, NOW + 1),
    LocalState(predicted_s=0.01),
    CloudState(True, True, 0.05),
    NOW,
)


def test_a_decision_that_comes_out_otherwise_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log = DecisionLog(file)
    for _ in range(2):
        log.write(START, story(START, [Answered(ServedBy.CLOUD, NOW + 0.1)]))
    log.close()
    lines = file.read_text().splitlines()
    changed = json.loads(lines[1])
    changed["rule"]["policy"] = "edge_first"
    file.write_text(lines[0] + "\n" + json.dumps(changed) + "\n")
    count, differences = replay(file)
    assert count == 2
    assert [difference.line for difference in differences] == [2]


def test_the_log_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log = DecisionLog(file, max_bytes=5_000)
    for _ in range(100):
        log.write(START, story(START, [Answered(ServedBy.CLOUD, NOW + 0.1)]))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 5_000 for path in tmp_path.iterdir())
    assert replay(file)[1] == replay(tmp_path / "log.1")[1] == []


@pytest.mark.parametrize("text", ["no json\n", '{"format": 99}\n', "[]\n", '{"format": 1}\n'])
def test_what_is_no_log_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "log"
    file.write_text(text)
    with pytest.raises(WrongUseError, match="log"):
        replay(file)
    with pytest.raises(WrongUseError, match="cannot be read"):
        replay(tmp_path / "nowhere")
    with pytest.raises(WrongUseError, match="cannot be written"):
        DecisionLog(tmp_path / "nowhere" / "log")


async def test_an_agents_requests_are_replayed_from_its_log(tmp_path: Path) -> None:
    from edge_agent.service import AgentService
    from tests.edge_agent.test_service import FakeGateway, FakeLocal, request

    file = tmp_path / "log"
    log = DecisionLog(file)
    service = AgentService(FakeLocal(), FakeGateway(), decision_log=log)
    for _ in range(10):
        await service.infer(request())
    await AgentService(FakeLocal(ExecutionError("broke")), FakeGateway(), decision_log=log).infer(request())
    hung = AgentService(FakeLocal(is_hanging=True), FakeGateway(), default_deadline_s=1.0, decision_log=log)
    await hung.infer(request())
    await asyncio.sleep(0)
    log.close()
    assert replay(file) == (12, [])


def test_the_command_exits_with_1_when_a_decision_comes_out_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import edgeward

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            edgeward.main(["agent", "replay", *arguments])
        return 0 if ended.value.code is None else int(ended.value.code)

    file = tmp_path / "log"
    log = DecisionLog(file)
    log.write(START, story(START, [Answered(ServedBy.CLOUD, NOW + 0.1)]))
    log.close()
    assert run(str(file)) == 0
    assert "1 requests decided again, 0 of them otherwise" in capsys.readouterr().out
    file.write_text(file.read_text().replace("cloud_first", "edge_first"))
    assert run(str(file), "--json") == 1
    assert json.loads(capsys.readouterr().out)["differences"][0]["line"] == 1
