"""The commands that need no gateway, and how a status looks."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import edgeward
from cloud_gateway.release.view import show_audit, show_release, show_releases
from tests.cloud_gateway.release.test_plan import LEAST


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        edgeward.main(["release", *words])
    return int(ended.value.code or 0)


def write_log(file: Path, is_worse: bool) -> None:
    lines = [json.dumps({"key": f"u{n}", "candidate": {"error": is_worse and n % 4 == 0}}) for n in range(6000)]
    file.write_text("\n".join(lines))


@pytest.mark.parametrize(("is_worse", "status"), [(True, "rolled_back"), (False, "settling")])
def test_a_plan_is_replayed_over_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_worse: bool, status: str
) -> None:
    plan, log = tmp_path / "plan.toml", tmp_path / "log.jsonl"
    plan.write_text(LEAST + 'stages = [50, 100]\nhold_s = 1\n[[guards]]\nmetric = "error_rate"\nmargin = 0.05\n')
    write_log(log, is_worse)
    assert run("simulate", str(plan), str(log), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == status
    assert run("simulate", str(plan), str(log)) == 0
    assert status in capsys.readouterr().out
    if is_worse:
        assert told["harm"]["bad_predictions"] > 0


def test_what_was_logged_before_a_restart_is_replayed_where_it_is_named_and_missed_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, log, before = tmp_path / "plan.toml", tmp_path / "log.jsonl", tmp_path / "log.jsonl.1"
    plan.write_text(LEAST + 'stages = [50, 100]\nhold_s = 1\n[[guards]]\nmetric = "error_rate"\nmargin = 0.05\n')
    write_log(before, False)
    log.write_text('{"key": "u1", "candidate": {"error": false}}\n')
    assert run("simulate", str(plan), str(log), "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "running"
    assert f"left out; to replay it too, name {before} first" in said.err
    assert run("simulate", str(plan), str(before), str(log), "--json") == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)["status"], said.err) == ("settling", "")


def test_a_log_without_a_candidate_is_doubted_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, log = tmp_path / "plan.toml", tmp_path / "log.jsonl"
    plan.write_text(LEAST)
    log.write_text('{"key": "u1"}\n{"key": "u2"}\n')
    assert run("simulate", str(plan), str(log), "--json") == 0
    said = capsys.readouterr()
    assert "warning: no line of the log says anything of the candidate" in said.err
    assert json.loads(said.out)["doubt"]


def test_what_is_wrong_is_said_before_a_gateway_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.toml"
    assert run("start", str(plan)) == 2
    assert "check the path" in capsys.readouterr().err
    plan.write_text(LEAST + "stages = [5, 1]")
    assert run("start", str(plan)) == 2
    assert "do not rise" in capsys.readouterr().err
    plan.write_text(LEAST)
    assert run("simulate", str(plan), str(tmp_path / "none.jsonl")) == 2


def test_the_example_is_a_plan_that_the_command_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--example") == 0
    file = tmp_path / "plan.toml"
    file.write_text(capsys.readouterr().out)
    assert run("plan", str(file)) == 0
    assert "1,100 requests" in capsys.readouterr().out
    assert run("plan", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["first_stage"]["if_harmless"] == 1100
    assert run("plan") == 2
    assert "--example" in capsys.readouterr().err


def shown(renderable: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


LATENCY = {"p50_ms": 1.0, "p99_ms": None}
FINDING = {"metric": "error_rate", "segment": "", "difference": 0.01, "lower": -0.1, "upper": None, "reason": "r"}
SHADOW: dict[str, Any] = {
    "compared": 10,
    "agreement": 0.9,
    "mean_distance": 0.01,
    "candidate_errors": 0,
    "dropped": 4,
    "confusion": {"3>8": 1},
    "noise_floor": {"compared": 2, "agreement": 1.0, "mean_distance": 0.0},
    "segments": {
        "de": {
            "compared": 5,
            "agreement": 0.8,
            "candidate_errors": 2,
            "confusion": {"1>7": 1},
            "stable": {"p50_ms": 1.5, "p99_ms": 2.0},
            "candidate": {"p50_ms": 1.6, "p99_ms": 2.5},
        },
        "fr": {
            "compared": 0,
            "candidate_errors": 1,
            "confusion": {},
            "stable": {"p50_ms": None, "p99_ms": None},
            "candidate": {"p50_ms": None, "p99_ms": None},
        },
    },
    "stable": LATENCY,
    "candidate": LATENCY,
}
RELEASE: dict[str, Any] = {
    "release": 3,
    "model": "digits",
    "strategy": "canary",
    "stable": 1,
    "candidate": 2,
    "status": "running",
    "is_alive": True,
    "share": 0.05,
    "stage": 1,
    "stages": [1.0, 5.0, 100.0],
    "in_stage_s": 12.0,
    "hold_s": 60.0,
    "reason": "[not enough]",
    "needed": 900,
    "is_leading": False,
    "leader": "other:1",
    "replaced_by_stable": 2,
    "arms": {arm: {"requests": 1000, "errors": 1, **LATENCY} for arm in ("stable", "candidate")},
    "losses": {
        "labelled": 40,
        "paired": 30,
        "stable_loss": 0.1,
        "candidate_loss": 0.2,
        "segments": {
            "de": {"labelled": 9, "paired": 9, "stable_loss": 0.3, "candidate_loss": 0.4},
            "fr": {"labelled": 1, "paired": 0},
        },
        "people": {
            "stable": {"compared": 0},
            "candidate": {"compared": 12, "people_loss": 0.05, "loss": 0.06},
            "confusion": {"3>8": 2},
        },
    },
    "verdict": {"findings": [FINDING]},
    "shadow": SHADOW,
}


def test_a_status_shows_how_the_version_fares_on_the_devices() -> None:
    waves = {
        "status": "running",
        "wave": 2,
        "percent": [1.0, 5.0, 100.0],
        "devices": 40,
        "allowed": 2,
        "given": 2,
        "outcomes": {"kept": 1, "rolled_back": 1},
        "devices_before": 1,
        "reason": "wave 2 waits for 1 more devices to report",
    }
    text = shown(show_release({**RELEASE, "waves": waves}))
    for word in ("waves running: 2 of 40 have it, 2 may", "1 kept, 1 rolled back", "waits for 1 more", "[5%]"):
        assert word in text


def test_a_status_shows_everything() -> None:
    text = shown(show_release(RELEASE))
    for word in (
        "version 1 → 2",
        "[5%]",
        "[not enough]",
        "900 requests",
        "other:1",
        "error_rate",
        "3→8 1×",
        "3→8 2×",
        "stable 0.3, candidate 0.4",
        "people 0.05, candidate 0.06 on 12 that people answered",
        "4 dropped",
        "80.0000% of 5; 2 failed; stable p50 1.5 ms, p99 2 ms; candidate p50 1.6 ms, p99 2.5 ms; differ 1→7 1×",
        "1 failed",
    ):
        assert word in text
    assert "segment de" in text
    assert "rolled back" in shown(show_releases([{**RELEASE, "status": "rolled_back"}]))
    hidden = {"release": 4, "model": "other", "status": "running", "why": "release 4 cannot be read"}
    text = shown(show_releases([RELEASE], [hidden]))
    assert all(word in text for word in ("digits", "other", "release 4 cannot be read"))
    line = {
        "number": 7,
        "unix_ms": 0,
        "model": "digits",
        "event": "rollback",
        "document": {"reason": "bad", "harm": "12 of 90"},
    }
    assert "bad; 12 of 90" in shown(show_audit([line]))
