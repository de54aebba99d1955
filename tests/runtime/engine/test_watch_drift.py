"""A watched model whose calls got slower: measured again, the better choice put in service, no more often than allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.engine import own_load
from runtime.engine.drift import Verdict
from runtime.engine.engine import Engine
from runtime.engine.measuring import MEASURING
from runtime.engine.settings import EngineSettings
from runtime.engine.tally import Outcome, Switch, SwitchReason
from runtime.engine.watch import LOOK_EVERY_S
from runtime.engine.watch_settings import WatchSettings
from runtime.errors import NoCandidateError
from runtime.selection.settings import SelectionSettings
from tests.runtime.engine.bed import Make, choice_of
from tests.runtime.selection.fakes import backends, machine, make_bundle


def test_drift_is_measured_again_and_the_new_choice_answers(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "next", "ref", ms=2.0)]
    bed.lab.takes_ms = {"fast": 9.0, "next": 2.0}
    bed.call_for(60)
    assert len(bed.measured) == 1
    assert bed.model.candidate.variant.name == "next"
    assert bed.model.cost_s(1) == 0.002
    totals = bed.watch.totals
    assert (totals.recalibrations, bed.model.watched()["switches"]) == (1, 1)
    assert totals.recalibrated == {(Verdict.SLOWER, Outcome.SWITCHED): 1}
    told = Switch("fast on fake-cpu, 1 thread", "next on fake-cpu, 1 thread", SwitchReason.MEASURED_AGAIN)
    assert bed.model.switches == {told: 1}
    assert "a call of 4 rows takes 9.00 ms" in totals.last_reason
    assert bed.lab.closed == ["fast"]
    assert bed.model.fallbacks == [], "a better choice is no fallback"


def test_measuring_again_and_finding_the_same_keeps_the_session_and_learns_the_cost(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "fast", "ref", ms=9.0)]
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(60)
    assert bed.model.cost_s(1) == 0.009
    assert bed.model.switches.total() == 0
    assert bed.watch.totals.recalibrated == {(Verdict.SLOWER, Outcome.KEPT): 1}
    assert not bed.model.switches
    assert bed.model.changes == 1
    assert bed.lab.opened.count("fast") == 1
    assert "fast" not in bed.lab.closed


@pytest.mark.slow
def test_what_measuring_again_confirms_is_not_measured_a_third_time(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "fast", ms=1.0)]
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(700)
    assert len(bed.measured) == 1


def test_it_is_not_measured_more_often_than_allowed(make: Make) -> None:
    bed = make(settings=WatchSettings(shadow_every=0, recalibrate_every_s=100))
    bed.next_choice = [NoCandidateError("nothing runs") for _ in range(20)]
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(450)
    assert len(bed.measured) in (4, 5)
    assert min(np.diff(bed.measured)) >= 100e9
    assert bed.watch.totals.failures == len(bed.measured)
    assert bed.watch.totals.recalibrated == {(Verdict.SLOWER, Outcome.FAILED): len(bed.measured)}
    assert bed.model.candidate.variant.name == "fast"


def test_it_is_never_measured_when_that_is_off(make: Make) -> None:
    bed = make(settings=WatchSettings(recalibrate_every_s=0))
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(100)
    assert bed.measured == []


def test_what_waits_for_the_processs_own_work_is_not_measured_again(make: Make) -> None:
    bed = make()
    bed.lab.waits_ms = 20.0
    bed.call_for(100)
    assert bed.measured == []
    assert set(bed.watch.totals.verdicts) == {Verdict.OWN_LOAD}
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "next", "ref", ms=2.0)]
    bed.lab.takes_ms = {"fast": 9.0}  # slower by itself, and under load all the same
    bed.call_for(60)
    assert len(bed.measured) == 1
    assert bed.model.candidate.variant.name == "next"


def test_calls_that_share_their_cores_with_others_are_not_measured_again(make: Make) -> None:
    bed = make()
    others = [
        bed.model._succession.service.claim,
        replace(bed.model._succession.service.claim),
        replace(bed.model._succession.service.claim),
    ]
    bed.lab.takes_ms = {"fast": 2.5}  # one of four calls on two cores takes twice as long
    for claim in others:
        own_load.enter(claim)
    try:
        bed.call_for(60)
        assert bed.measured == []
    finally:
        for claim in others:
            own_load.leave(claim)
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "fast", "ref", ms=2.5)]
    bed.call_for(60)
    assert len(bed.measured) == 1, "alone, that is drift"


def test_calls_beside_a_measurement_are_not_timed(make: Make) -> None:
    bed = make()
    bed.lab.takes_ms = {"fast": 9.0}
    with MEASURING:
        bed.call_for(100)
    assert bed.measured == []
    assert not bed.watch.totals.verdicts


def test_many_calls_are_timed_in_part(make: Make) -> None:
    bed = make(settings=WatchSettings(shadow_every=0))
    bed.lab.takes_ms = {"fast": 0.01}
    bed.call(20_000)  # 0.2 s
    bed.clock.now_ns += int(LOOK_EVERY_S * 1e9)
    bed.call()
    timed: list[bool] = []
    for _ in range(2_000):
        timed.append(bed.watch.enter(bed.model._succession.service.claim) is not None)
        bed.watch.leave(bed.model._succession.service.claim, None, 0)
    assert 5 <= sum(timed) <= 8, "about 64 of 20,000"


def test_a_new_choice_that_does_not_open_leaves_the_old_one(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "next")]
    bed.lab.unopenable = {"next"}
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(60)
    assert bed.model.candidate.variant.name == "fast"
    assert bed.model.switches.total() == 0
    bed.call()


def test_a_new_choice_that_fails_when_warmed_up_leaves_the_old_one(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "next")]
    bed.lab.broken = {"next"}
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(60)
    assert bed.model.candidate.variant.name == "fast"
    assert bed.lab.closed == ["next"]


def test_what_is_in_quarantine_is_not_chosen_again(make: Make) -> None:
    bed = make()
    bed.lab.wrong = {"fast"}
    bed.call(20)
    bed.lab.takes_ms = {"next": 9.0}
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "fast", "ref", "next")]
    bed.call_for(60)
    assert bed.model.candidate.variant.name == "ref"


@pytest.mark.slow
def test_an_engine_measures_again_without_keeping_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {"ms": 0.5}, "fast": {"ms": 0.1}})
    selection = SelectionSettings(budget_s=0.1, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), backends())
    model = engine.load(bundle.root)
    (kept,) = (tmp_path / "home" / "calibrations").iterdir()
    before = kept.read_bytes()
    again = engine._loader.choose_again(model, lambda what, share: None)
    assert not again.from_cache
    assert kept.read_bytes() == before
    engine.close()


@pytest.mark.slow
def test_measuring_again_looks_at_the_machine_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {"ms": 0.5}})
    machines = [machine(2), machine(1)]
    monkeypatch.setattr("runtime.hardware.probe", lambda: machines.pop(0))
    selection = SelectionSettings(budget_s=0.1, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), backends=backends())
    model = engine.load(bundle.root)
    assert engine.hardware.cores.threads == 2
    again = engine._loader.choose_again(model, lambda what, share: None)
    assert {ranked.candidate.options.threads for ranked in again.ranked} == {1}, "a core was taken away"
    assert engine.hardware.cores.threads == 1
    engine.close()
