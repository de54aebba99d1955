"""A model that is watched: wrong answers are found and quarantined, and a watch that falls over costs no call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.engine import own_load
from runtime.engine.model import Model
from runtime.engine.reference import NoReferenceError, Reference
from runtime.engine.tally import Switch, SwitchReason
from runtime.engine.watch_settings import WatchSettings
from runtime.errors import BackendUnavailableError, WrongUseError
from runtime.selection.candidates import Rejected
from tests.runtime.engine.bed import Make, X, choice_of
from tests.runtime.selection.fakes import CLASSES, FakeBackend, make_bundle


def test_right_answers_are_checked_and_nothing_else_happens(make: Make) -> None:
    bed = make()
    bed.call(50)
    assert bed.watch.totals.shadow_checks == 50
    assert bed.watch.totals.disagreements == 0
    assert bed.lab.opened == ["fast", "ref"], "the reference is opened once, and only when it is needed"
    assert bed.model.fallbacks == []
    bed.model.close()
    assert sorted(bed.lab.closed) == ["fast", "ref"]


def test_sustained_disagreement_puts_the_next_right_candidate_in_service(make: Make) -> None:
    bed = make()
    bed.lab.wrong = {"fast"}
    bed.call(20)
    assert bed.model.candidate.variant.name == "next"
    totals = bed.watch.totals
    assert (totals.quarantined, totals.disagreements) == (1, 6)
    told = Switch("fast on fake-cpu, 1 thread", "next on fake-cpu, 1 thread", SwitchReason.QUARANTINED)
    assert bed.model.switches == {told: 1}
    assert bed.model.watched()["switches"] == 1
    assert "disagree with those of ref on fake-cpu" in totals.last_reason
    assert len(bed.model.fallbacks) == 1
    assert "fast on fake-cpu, 1 thread is in quarantine" in bed.model.fallbacks[0]
    assert "next on fake-cpu, 1 thread took over" in bed.model.fallbacks[0]
    assert bed.lab.closed == ["fast"]
    np.testing.assert_array_equal(bed.model.predict(X)["y"], X)


def test_when_the_next_is_wrong_too_the_reference_answers_and_is_checked_no_more(make: Make) -> None:
    bed = make()
    bed.lab.wrong = {"fast", "next"}
    bed.call(40)
    assert bed.model.candidate.variant.name == "ref"
    checks = bed.watch.totals.shadow_checks
    bed.call(40)
    assert bed.watch.totals.shadow_checks == checks == 12
    assert bed.watch.totals.shadow == "no shadow checks: the reference ref itself answers"


def test_with_nothing_to_switch_to_the_model_serves_on_and_says_so(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bed = make()
    bed.lab.wrong = {"fast"}
    bed.lab.broken = set()
    bed.call()  # opens the reference
    bed.lab.unopenable = {"next", "ref"}
    bed.call(10)
    assert bed.model.candidate.variant.name == "fast"
    totals = bed.watch.totals
    assert (bed.model.switches.total(), totals.quarantined, totals.failures) == (0, 0, 1), (
        "what still answers is in no quarantine"
    )
    assert totals.last_reason.endswith("nothing else could take over")
    assert "stays in service although its answers disagree" in caplog.text


def test_what_the_calibration_saw_is_allowed(make: Make) -> None:
    bed = make(agreement=0.5)
    bed.lab.inside = lambda name: bed.lab.wrong.symmetric_difference_update({"fast"}) if name == "fast" else None
    bed.call(200)
    assert bed.watch.totals.disagreements == 100
    assert bed.watch.totals.quarantined == 0


def test_one_in_so_many_is_sampled_on_average(make: Make) -> None:
    bed = make(settings=WatchSettings(shadow_every=10))
    bed.call(2000)
    assert 160 <= bed.watch.totals.shadow_checks <= 250


def test_none_are_sampled_when_that_is_off(make: Make) -> None:
    bed = make(settings=WatchSettings(shadow_every=0))
    bed.call(2000)
    assert bed.lab.opened == ["fast"]


def test_a_reference_that_is_not_there_or_too_large_is_said(make: Make) -> None:
    bed = make("fast", "next", agreement=0.99)
    bed.call(5)
    assert bed.watch.totals.shadow == (
        "no shadow checks: the reference ref is not among what may run here, and no other variant in fp32 answers as it does"
    )
    choice = bed.model.choice
    untried = Rejected("ref", "fake-cpu", "not tried: no time was left for it in the budget of 3 s", "1 thread")
    with pytest.raises(
        NoReferenceError, match=r"what may run here \(fake-cpu: not tried: no time was left for it in the budget"
    ):
        Reference(bed.bundle, replace(choice, rejected=(untried,)), choice.selected, None)
    tight = make(targets={"memory_mb": 15.0})
    tight.call(5)
    assert "would take 20.0 MB, the cap is 15.0 MB" in tight.watch.totals.shadow
    assert tight.lab.opened == ["fast"]


def test_a_reference_that_fails_costs_the_check_alone(make: Make) -> None:
    bed = make()
    bed.lab.broken = {"ref"}
    bed.call(5)
    assert bed.watch.totals.failures == bed.watch.totals.shadow_failures == 5
    assert bed.watch.totals.shadow_checks == 0
    assert bed.model.candidate.variant.name == "fast"


def test_inputs_that_are_no_numbers_and_empty_batches_prove_nothing(make: Make) -> None:
    bed = make()
    bed.lab.wrong = {"fast"}
    for value in (np.nan, np.inf):
        bed.model.predict(np.full((2, CLASSES), value, np.float32))
    bed.model.predict(np.zeros((0, CLASSES), np.float32))
    assert bed.watch.totals.shadow_checks == 0


def test_a_check_sees_the_inputs_of_the_call_although_the_caller_changes_them(make: Make) -> None:
    jobs: list[Callable[[], None]] = []
    bed = make(start=jobs.append)
    mine = X.copy()
    answers = bed.model.predict(mine)["y"]
    mine[:] = 0
    answers[:] = -5
    (job,) = jobs
    job()
    assert bed.watch.totals.shadow_checks == 1
    assert bed.watch.totals.disagreements == 0


def test_large_batches_are_checked_in_part(make: Make) -> None:
    seen: list[int] = []
    bed = make()
    rows = np.repeat(X, 100, axis=0)
    reference = bed.lab.calls
    bed.lab.inside = lambda name: seen.append(len(reference)) if name == "ref" else None
    assert len(bed.model.predict(rows)["y"]) == 400
    assert bed.watch.totals.shadow_checks == len(seen) == 1


def test_the_reference_runs_on_the_processor_where_it_can(make: Make, tmp_path: Path) -> None:
    bed = make("fast", "ref")
    gpu = replace(bed.model.choice.ranked[1].candidate, backend=FakeBackend("fake-gpu", "gpu"))
    on_gpu = replace(bed.model.choice.ranked[1], candidate=gpu)
    choice = replace(bed.model.choice, ranked=(on_gpu, *bed.model.choice.ranked))
    assert Reference(bed.bundle, choice, choice.selected, None).candidate.backend.name == "fake-cpu"


def test_what_answers_the_same_in_fp32_stands_in_for_a_reference_that_was_not_tried(make: Make) -> None:
    bed = make("fast", "next")
    bed.lab.wrong = {"fast"}
    same = bed.model.choice.ranked[1]
    wrong = replace(bed.model.choice.ranked[0], agreement=0.95)
    choice = replace(bed.model.choice, ranked=(wrong, same))
    assert Reference(bed.bundle, choice, choice.selected, None).candidate.variant.name == "next"
    model = Model(bed.bundle, choice, bed.watch)
    for _ in range(50):
        model.predict(X)
    assert bed.watch.totals.disagreements > 0
    assert model.candidate.variant.name == "next"


def test_what_serves_stands_in_only_where_nothing_else_may(make: Make) -> None:
    bed = make("fast", "next")
    choice = bed.model.choice
    assert Reference(bed.bundle, choice, choice.selected, None).candidate.variant.name == "next"
    bed.call(5)
    assert (bed.watch.totals.shadow, bed.watch.totals.shadow_checks) == ("", 5)
    alone = make("fast")
    alone.call(5)
    assert alone.watch.totals.shadow == (
        "no shadow checks: fast, which stands in for the reference ref, itself answers"
    )


def test_what_took_over_is_not_compared_with_itself(make: Make) -> None:
    bed = make("fast", "next")
    bed.call(3)
    assert bed.lab.opened == ["fast", "next"]
    assert bed.model.adopt(replace(bed.model.choice, ranked=bed.model.choice.ranked[::-1]), "a test")
    assert bed.model.candidate.variant.name == "next"
    bed.call(3)
    assert (bed.watch.totals.shadow, bed.watch.totals.shadow_checks) == ("", 6)
    assert bed.lab.opened == ["fast", "next", "next", "fast"], "what stood in serves, and what served stands in"
    assert bed.lab.closed == ["fast", "next"], "what stood in before is closed"
    bed.lab.wrong = {"next"}
    bed.call(20)
    assert bed.model.candidate.variant.name == "fast"


def test_what_is_in_quarantine_stands_in_for_nothing(make: Make) -> None:
    bed = make("fast", "next")
    bed.lab.wrong = {"fast"}
    bed.call(20)
    assert bed.model.candidate.variant.name == "next"
    checks = bed.watch.totals.shadow_checks
    bed.call(20)
    assert bed.watch.totals.shadow_checks == checks
    assert bed.watch.totals.shadow == "no shadow checks: next, which stands in for the reference ref, itself answers"
    assert bed.lab.opened == ["fast", "next", "next"]
    assert sorted(bed.lab.closed) == ["fast", "next"], "of what serves there is one session"


def test_what_was_just_lost_stands_in_for_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def vanish(name: str) -> None:
        if name == "fast":
            raise BackendUnavailableError("its engine is gone")

    bed = make("fast", "next")
    bed.call(3)
    bed.lab.inside = vanish
    bed.lab.unopenable = {"fast"}
    bed.call()
    assert bed.model.candidate.variant.name == "next"
    caplog.clear()
    bed.call(50)
    totals = bed.watch.totals
    assert (totals.shadow_checks, totals.shadow_failures, totals.failures) == (3, 0, 0)
    assert totals.shadow == "no shadow checks: next, which stands in for the reference ref, itself answers"
    assert caplog.text == ""
    assert sorted(bed.lab.closed) == ["fast", "next"]


def test_what_was_passed_over_stands_in_for_nothing_until_a_calibration_finds_it(make: Make) -> None:
    bed = make("fast", "next")
    bed.lab.unopenable = {"fast"}
    model = Model(bed.bundle, bed.model.choice, bed.watch)
    model.predict(X)
    assert bed.watch.totals.shadow == "no shadow checks: next, which stands in for the reference ref, itself answers"
    bed.lab.unopenable = set()
    model.adopt(choice_of(bed.bundle, bed.lab, "next", "fast"), "a test")
    model.predict(X)
    assert (bed.watch.totals.shadow, bed.watch.totals.shadow_checks) == ("", 1)


def test_what_stands_in_and_cannot_be_opened_is_said_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    bed = make("fast", "next")
    bed.lab.unopenable = {"next"}
    bed.call(20)
    totals = bed.watch.totals
    assert totals.shadow == (
        "no shadow checks: next, which stands in for the reference ref, is gone (its device is gone)"
    )
    assert (totals.shadow_checks, totals.shadow_failures, totals.failures) == (0, 0, 0)
    assert caplog.text == ""


def test_what_takes_over_has_to_fit_beside_the_reference_too(make: Make) -> None:
    bed = make(targets={"memory_mb": 25.0})
    bed.call(3)
    fast, following, ref = bed.model.choice.ranked
    large = replace(following, memory_mb=20.0)
    bed.model.adopt(replace(bed.model.choice, ranked=(large, fast, ref)), "a test")
    bed.call(5)
    assert bed.watch.totals.shadow == (
        "no shadow checks: the reference ref beside next would take 30.0 MB, the cap is 25.0 MB"
    )
    assert bed.watch.totals.shadow_checks == 3
    assert bed.lab.closed == ["fast", "ref"]


def test_who_measures_again_is_compared_with_what_may_run_then(make: Make) -> None:
    alone = make("fast")
    alone.call(3)
    assert alone.watch.totals.shadow_checks == 0
    alone.model.adopt(choice_of(alone.bundle, alone.lab, "fast", "ref"), "a test")
    alone.call(3)
    assert (alone.watch.totals.shadow, alone.watch.totals.shadow_checks) == ("", 3)
    bed = make("fast", "next")
    bed.call(3)
    bed.model.adopt(choice_of(bed.bundle, bed.lab, "fast", "next", "ref"), "a test")
    bed.call(3)
    assert (bed.lab.opened, bed.lab.closed) == (["fast", "next", "ref"], ["next"])
    bed.model.adopt(choice_of(bed.bundle, bed.lab, "fast", "ref"), "a test")
    bed.call(3)
    assert (bed.lab.opened, bed.lab.closed) == (["fast", "next", "ref"], ["next"]), "what is open already stays"
    assert bed.watch.totals.shadow_checks == 9


def test_what_stands_in_is_named_where_it_would_take_too_much(make: Make) -> None:
    bed = make("fast", "next", targets={"memory_mb": 15.0})
    bed.call()
    assert bed.watch.totals.shadow.startswith(
        "no shadow checks: next, which stands in for the reference ref, beside fast would take 20.0 MB"
    )


def test_what_stands_in_has_to_answer_the_samples_as_the_reference_did(make: Make) -> None:
    """In its trial it may have been compared on eight rows."""
    bed = make("fast", "next")
    bed.lab.wrong = {"next"}
    bed.call(20)
    totals = bed.watch.totals
    assert totals.shadow == (
        "no shadow checks: next, which stands in for the reference ref, does not answer all of the bundle's first 40 samples "
        "as it does"
    )
    assert (totals.shadow_checks, totals.quarantined, totals.failures) == (0, 0, 0)
    assert bed.model.candidate.variant.name == "fast"
    assert (bed.lab.opened, bed.lab.closed) == (["fast", "next"], ["next"]), "once, and closed again"


def test_nothing_stands_in_where_the_references_answers_are_not_known(make: Make, tmp_path: Path) -> None:
    bed = make("fast", "next")
    bundle = make_bundle(tmp_path / "bare", {"ref": {}, "fast": {}, "next": {}}, samples=False)
    model = Model(bundle, bed.model.choice, bed.watch)
    for _ in range(5):
        model.predict(X)
    assert bed.watch.totals.shadow == (
        "no shadow checks: next, which stands in for the reference ref, cannot be compared with it: its answers are not in the "
        "bundle"
    )


def test_a_first_choice_that_cannot_be_opened_is_said(make: Make) -> None:
    bed = make()
    bed.lab.unopenable = {"fast"}
    model = Model(bed.bundle, bed.model.choice)
    assert model.candidate.variant.name == "next"
    assert model.fallback is not None
    assert model.fallback.startswith("fast on fake-cpu, 1 thread cannot be opened (its device is gone); next on")
    assert model.fallbacks == [model.fallback]
    told = Switch("fast on fake-cpu, 1 thread", "next on fake-cpu, 1 thread", SwitchReason.LOST)
    assert model.switches == {told: 1}
    assert model.watched() == {}, "nobody watches it"


def test_a_fallback_is_told_until_a_calibration_chose_again(make: Make) -> None:
    bed = make()
    bed.lab.wrong = {"fast"}
    bed.call(20)
    assert bed.model.fallback == bed.model.fallbacks[-1]
    bed.model.adopt(choice_of(bed.bundle, bed.lab, "ref"), "a test")
    assert bed.model.fallback is None
    assert len(bed.model.fallbacks) == 1, "what happened stays known"


def test_a_watch_that_falls_over_costs_no_call(make: Make) -> None:
    def no_thread(job: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    bed = make(start=no_thread)
    bed.call(3)
    assert bed.watch.totals.failures == 3
    full = make()

    def no_memory(*_: object) -> None:
        raise MemoryError

    full.watch._sample = no_memory  # type: ignore[method-assign,assignment]
    full.call(3)
    assert full.watch.totals.failures == 3
    other = make()
    other.next_choice = []  # an IndexError where none is foreseen
    other.lab.takes_ms = {"fast": 9.0}
    other.call_for(60)
    assert other.watch.totals.failures == 1


@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("error", [OSError("no such clock"), MemoryError(), KeyboardInterrupt()])
def test_a_call_whose_clocks_fail_claims_nothing_any_more(make: Make, read: int, error: BaseException) -> None:
    bed = make()
    left = [read]  # read once before the call and once after it

    def others() -> dict[int, int]:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return {}

    bed.watch._clocks = replace(bed.watch._clocks, others=others)
    before = list(own_load._UNDER_WAY)
    if isinstance(error, Exception):
        np.testing.assert_array_equal(bed.model.predict(X)["y"], X)
        assert bed.watch.totals.failures == 1
    else:
        with pytest.raises(KeyboardInterrupt):
            bed.call()
    assert before == own_load._UNDER_WAY


@pytest.mark.parametrize(
    "wrong", [{"shadow_every": -1}, {"recalibrate_every_s": -1}, {"recalibrate_every_s": float("nan")}]
)
def test_settings_that_cannot_be_are_wrong_use(wrong: dict[str, float]) -> None:
    with pytest.raises(WrongUseError, match=next(iter(wrong))):
        WatchSettings(**wrong)  # type: ignore[arg-type]
