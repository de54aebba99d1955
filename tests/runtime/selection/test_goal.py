"""What is asked for, by the caller or by the manifest, and how it is told."""

from pathlib import Path

import pytest

from runtime.bundle.objective import Objective
from runtime.errors import WrongUseError
from runtime.selection.goal import AskedBy, Goal, Wish, explain, goal_for
from runtime.selection.settings import SelectionSettings
from tests.runtime.selection.fakes import make_bundle

DECLARED = {
    "accuracy_floor": 0.97,
    "agreement_floor": 0.8,
    "memory_mb": 64,
    "p95_latency_ms": 20,
    "throughput_rows_per_s": 500,
    "objective": "memory",
}


def test_the_manifest_says_it_all_where_the_caller_says_nothing(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}}, targets=DECLARED)
    goal = goal_for(bundle, SelectionSettings())
    assert goal == Goal(Objective.MEMORY, 0.97, 0.8, 64, bundle.manifest.targets)  # type: ignore[union-attr]
    assert explain(bundle, SelectionSettings()) == [
        Wish("accuracy", "at least 97.0 %", AskedBy.MANIFEST),
        Wish("agreement", "at least 80.0 %", AskedBy.MANIFEST),
        Wish("memory", "at most 64 MB", AskedBy.MANIFEST),
        Wish("p95 of one row", "at most 20 ms", AskedBy.MANIFEST),
        Wish("throughput", "at least 500 rows/s", AskedBy.MANIFEST),
        Wish("then the best", "memory", AskedBy.MANIFEST),
    ]


def test_the_caller_overrides_it_part_by_part(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}}, targets=DECLARED)
    settings = SelectionSettings(
        objective=Objective.LATENCY, accuracy_floor=0.0, agreement_floor=0.5, memory_cap_mb=1, p95_ms=5, rows_per_s=7
    )
    goal = goal_for(bundle, settings)
    assert (goal.objective, goal.accuracy_floor, goal.agreement_floor, goal.memory_cap_mb) == ("latency", 0.0, 0.5, 1)
    assert (goal.targets.p95_latency_ms, goal.targets.throughput_rows_per_s) == (5, 7)
    assert {wish.asked_by for wish in explain(bundle, settings)} == {AskedBy.CALLER}
    some = explain(bundle, SelectionSettings(p95_ms=5))
    assert [wish.what for wish in some if wish.asked_by is AskedBy.CALLER] == ["p95 of one row"]
    assert some[3].value == "at most 5 ms"


def test_latency_decides_where_nobody_says_anything(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}})
    assert goal_for(bundle, SelectionSettings()) == Goal()
    told = explain(bundle, SelectionSettings())
    assert {wish.asked_by for wish in told} == {AskedBy.DEFAULT}
    assert [wish.value for wish in told] == ["none"] * 5 + ["latency"]


def test_who_serves_has_another_usual_objective_and_is_overruled_alike(tmp_path: Path) -> None:
    serving = SelectionSettings(usual_objective=Objective.EFFICIENCY)
    bare = make_bundle(tmp_path / "bare", {"a": {}})
    assert goal_for(bare, serving).objective is Objective.EFFICIENCY
    assert explain(bare, serving)[-1] == Wish("then the best", "efficiency", AskedBy.DEFAULT)
    asked = SelectionSettings(objective=Objective.LATENCY, usual_objective=Objective.EFFICIENCY)
    assert goal_for(bare, asked).objective is Objective.LATENCY
    declared = make_bundle(tmp_path / "declared", {"a": {}}, targets=DECLARED)
    assert goal_for(declared, serving).objective is Objective.MEMORY


@pytest.mark.parametrize("wrong", [{"p95_ms": 0.0}, {"rows_per_s": float("nan")}, {"agreement_floor": 1.1}])
def test_wishes_that_cannot_be_are_wrong_use(wrong: dict[str, float]) -> None:
    with pytest.raises(WrongUseError, match=next(iter(wrong))):
        SelectionSettings(**wrong)  # type: ignore[arg-type]
