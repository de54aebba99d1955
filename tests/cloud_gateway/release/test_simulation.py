"""A plan over a log: the same steps as a gateway would take, on the log's clock."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.simulation import LoggedRequest, Outcome, read_log, read_logs, simulate
from runtime.errors import InvalidInputError
from tests.cloud_gateway.release.fakes import ADVANCE, HOLD, ROLLBACK, FakeWatch
from tests.cloud_gateway.release.test_plan import LEAST

PLAN = parse_plan(LEAST + "stages = [10, 50, 100]\nhold_s = 5\nkeep_warm_s = 5")


def watch(verdict: object) -> type[FakeWatch]:
    return type("Told", (FakeWatch,), {"says": verdict})


def requests(count: int, gap_s: float = 0.01) -> list[LoggedRequest]:
    return [LoggedRequest(number * gap_s, f"u{number}", "", Outcome(), Outcome()) for number in range(count)]


def test_it_walks_through_the_stages_on_the_logs_clock() -> None:
    told = simulate(PLAN, requests(3000), watch(ADVANCE)).to_dict()
    assert [(step["move"], step["share"]) for step in told["steps"]] == [
        ("hold", 0.1),
        ("advance", 0.5),
        ("promote", 1.0),
        ("finish", 1.0),
    ]
    assert [step["at_s"] for step in told["steps"]] == pytest.approx([0, 5, 10, 15], abs=0.5)
    assert told["status"] == "promoted"


def test_without_evidence_it_holds_and_says_what_is_needed() -> None:
    told = simulate(PLAN, requests(1000), watch(HOLD)).to_dict()
    assert (told["status"], told["share"], told["needed"]) == ("running", 0.1, 500)


def test_harm_ends_it_and_is_counted() -> None:
    done = simulate(PLAN, requests(1000), watch(ROLLBACK))
    assert done.state.status == "rolled_back"
    assert done.requests < 100
    assert done.harm.estimate == 12.0


BLUE_GREEN = parse_plan(LEAST + 'strategy = "blue_green"\nkeep_warm_s = 5')


def test_all_at_once_is_compared_with_what_stable_would_have_answered() -> None:
    good = simulate(BLUE_GREEN, requests(3000))
    assert good.state.status == "promoted"
    assert good.requests >= good.verdict.findings[0].stable_count > 0
    few = simulate(BLUE_GREEN, requests(600))
    assert (few.state.status, few.state.share) == ("settling", 1.0)
    assert few.needed is not None
    assert 0 < few.needed < 1120
    bad = [replace(one, candidate=Outcome(at % 10 < 3)) for at, one in enumerate(requests(3000))]
    assert simulate(BLUE_GREEN, bad).state.status == "rolled_back"


def test_a_long_gap_takes_no_long_time() -> None:
    log = [*requests(10), LoggedRequest(1e7, "late", "", Outcome(), Outcome())]
    assert simulate(PLAN, log, watch(HOLD)).requests == 11


def test_logs_of_several_runs_are_one_and_a_clock_that_began_anew_goes_on(tmp_path: Path) -> None:
    said = {"first": (3.0, 4.0, 9.0), "rotated": (9.5, 10.0), "started_again": (0.5, 2.0), "rotated_too": (2.5,)}
    for name, times in said.items():
        (tmp_path / name).write_text("\n".join(json.dumps({"at_s": at_s}) for at_s in times))
    read = [request.at_s for request in read_logs([tmp_path / name for name in said])]
    assert read == [3.0, 4.0, 9.0, 9.5, 10.0, 10.5, 12.0, 12.5]


def test_what_a_line_leaves_out_is_taken_as_said() -> None:
    lines = [
        json.dumps({"key": "a", "stable": {"error": True, "latency_ms": 4, "loss": 0.5}}),
        "",
        json.dumps({"at_s": 2, "candidate": {"error": True}, "agrees": False, "metrics": {"revenue": 1}}),
        json.dumps({}),
    ]
    first, second, third = read_log(lines)
    assert first.candidate == first.stable == Outcome(True, 0.004, 0.5)
    assert (second.at_s, second.stable, second.candidate.is_error) == (2.0, Outcome(), True)
    assert not second.agrees
    assert third.at_s == pytest.approx(2.0)
    assert third.key is None


def test_lines_of_other_models_and_of_one_version_alone_are_left_out() -> None:
    lines = [
        {"at_s": 100.0, "model": "digits", "stable": {}, "candidate": {"error": True}},
        {"at_s": 100.1, "model": "other", "candidate": {}},
        {"at_s": 100.2, "model": "digits", "stable": {}, "candidate": None},
        {"at_s": 100.3, "model": "digits", "stable": None, "candidate": {"error": True}},
        {"at_s": 101.0, "model": "digits", "candidate": {}},
    ]
    done = simulate(PLAN, read_log(map(json.dumps, lines)), watch(HOLD))
    assert (done.requests, done.left_out, done.doubt) == (2, 2, "")
    assert done.state.in_stage_s == pytest.approx(1.0, abs=0.2), "the log's clock begins with its first line"
    with pytest.raises(
        InvalidInputError, match="says what both versions of 'digits' did with a request; 2 say it of one"
    ):
        simulate(PLAN, read_log(map(json.dumps, lines[1:4])))


def test_a_log_that_says_nothing_of_the_candidate_proves_nothing_and_says_so() -> None:
    lines = [json.dumps({"stable": {"error": at % 9 == 0}}) for at in range(50)]
    assert "no line of the log says anything of the candidate" in simulate(PLAN, read_log(lines)).doubt
    assert simulate(PLAN, read_log([*lines, json.dumps({"agrees": True})])).doubt == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rubbish", "line 2 of the log is no request"),
        ("[]", "line 2"),
        ('{"keys": "a"}', "unknown key 'keys'"),
        ('{"stable": {"lat": 1}}', "unknown key 'lat'"),
        ('{"at_s": "soon"}', "could not convert"),
        ('{"at_s": -5}', "before the one above it; sort them"),
    ],
)
def test_lines_that_are_no_requests(line: str, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        list(read_log(["{}", line]))
