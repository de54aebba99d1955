"""Verdicts: back on harm, on only with proof, hold otherwise and say how long; one alpha for everything; state as JSON."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from cloud_gateway.guards import (
    Action,
    Arm,
    Direction,
    GuardSettings,
    GuardWatch,
    LabelledObservation,
    Metric,
    MetricObservation,
    Observation,
    PairedObservation,
    Verdict,
)
from cloud_gateway.guards.watch import MOST_SEGMENTS
from runtime.errors import InvalidInputError
from runtime.sequential.asymptotic import FEWEST

ERRORS = GuardSettings(metric=Metric.ERROR_RATE, margin=0.02)
LATENCY = GuardSettings(metric=Metric.LATENCY, margin=0.5, quantile=0.9)


def canary(
    watch: GuardWatch,
    requests: int,
    base: float,
    harm: float,
    *,
    share: float = 0.5,
    slower: float = 1.0,
    seed: int = 1,
    segment: str = "",
) -> Verdict:
    """Requests with these error rates and log-normal latencies; stops at the first verdict that is not to hold."""
    rng = np.random.default_rng(seed)
    for at in range(requests):
        is_candidate = rng.random() < share
        is_error = bool(rng.random() < (harm if is_candidate else base))
        latency_s = float(np.exp(rng.normal(-4, 0.5))) * (slower if is_candidate else 1.0)
        arm = Arm.CANDIDATE if is_candidate else Arm.STABLE
        watch.observe(Observation(arm, is_error, latency_s, f"{seed}-{at}", segment))
        if at % 25 == 24 and watch.judge().action is not Action.HOLD:
            break
    return watch.judge()


def test_without_traffic_it_holds_and_says_how_many_requests_are_needed() -> None:
    verdict = GuardWatch([ERRORS], 0.05, 0.1).judge()
    assert verdict.action is Action.HOLD
    assert verdict.needed is not None
    assert verdict.needed > 1000
    assert f"about {verdict.needed:,} requests more" in verdict.reason
    assert "nothing was compared yet" in verdict.findings[0].reason


@pytest.mark.parametrize(
    ("guards", "share", "base", "harm", "seen"),
    [
        ([ERRORS, LATENCY], 0.5, 0.05, 0.2, {Action.HOLD, Action.ROLLBACK}),
        ([ERRORS], 0.5, 0.01, 0.01, {Action.HOLD, Action.ADVANCE}),
        ([ERRORS.model_copy(update={"by_segment": True})], 0.5, 0.05, 0.2, {Action.HOLD, Action.ROLLBACK}),
        ([ERRORS.model_copy(update={"by_segment": True})], 0.5, 0.01, 0.01, {Action.HOLD, Action.ADVANCE}),
        ([ERRORS], 0.05, 0.01, 0.01, {Action.HOLD}),  # half of the requests are not what was planned
        ([ERRORS.model_copy(update={"is_required": False})], 0.5, 0.01, 0.01, {Action.HOLD}),
        ([GuardSettings(metric=Metric.BUSINESS, name="revenue", margin=1.0)], 1.0, 0.01, 0.01, {Action.HOLD}),
    ],
)
def test_the_quick_look_wants_what_the_verdict_does(
    guards: list[GuardSettings], share: float, base: float, harm: float, seen: set[Action]
) -> None:
    rng = np.random.default_rng(5)
    watch = GuardWatch(guards, 0.05, share)
    found = set()
    for at in range(4000):
        arm = Arm.CANDIDATE if rng.random() < 0.5 else Arm.STABLE
        is_error = bool(rng.random() < (harm if arm is Arm.CANDIDATE else base))
        watch.observe(Observation(arm, is_error, float(np.exp(rng.normal(-4, 0.5))), str(at), "abc"[at % 3]))
        if at % 20 == 0:
            assert watch.action is watch.judge().action
            found.add(watch.action)
    assert found == seen


def test_a_candidate_that_errs_more_is_rolled_back_and_the_damage_told() -> None:
    verdict = canary(GuardWatch([ERRORS, LATENCY], 0.05, 0.5), 6000, 0.05, 0.15)
    assert verdict.action is Action.ROLLBACK
    finding = verdict.findings[0]
    assert finding.metric == "error_rate"
    assert finding.difference is not None
    assert finding.difference > 0
    assert finding.bad_predictions is not None
    assert finding.bad_predictions.upper >= finding.bad_predictions.estimate > 0
    assert "bad predictions served: about" in verdict.reason
    assert "error_rate" in verdict.reason


def test_proof_is_told_as_people_read_it() -> None:
    watch = GuardWatch([ERRORS], 0.05, 0.5)
    reasons = []
    for at in range(3000):  # the candidate fails one time in three
        watch.observe(Observation(Arm.CANDIDATE if at % 2 else Arm.STABLE, at % 6 == 5, 0.01, str(at), ""))
        (finding,) = watch.judge().findings if at % 6 == 5 else (None,)
        if finding is not None:
            reasons.append(finding.reason)
            is_proven = finding.e_worse >= 1 / finding.alpha_share
            assert ("proof of harm: reached; of no harm: none" in finding.reason) is is_proven
    assert any(re.search(r"proof of harm: [1-9]\d? % of what it takes; ", reason) for reason in reasons)
    assert "proof of harm: reached" in reasons[-1]


def test_a_slower_candidate_is_rolled_back() -> None:
    verdict = canary(GuardWatch([LATENCY], 0.05, 0.5), 6000, 0.0, 0.0, slower=1.8)
    assert verdict.action is Action.ROLLBACK
    assert "latency p90" in verdict.reason
    stable, candidate = verdict.findings[0].stable_estimate, verdict.findings[0].candidate_estimate
    assert stable is not None
    assert candidate is not None
    assert candidate > stable


@pytest.mark.slow
def test_an_equal_candidate_advances_when_every_guard_is_proven() -> None:
    watch = GuardWatch([ERRORS, LATENCY], 0.05, 0.5)
    few = canary(watch, 100, 0.01, 0.01)
    assert few.action is Action.HOLD
    verdict = canary(watch, 8000, 0.01, 0.01, seed=2)
    assert verdict.action is Action.ADVANCE
    assert all(finding.e_fine >= 20 for finding in verdict.findings)
    assert verdict.needed is None


@pytest.mark.slow
def test_the_next_stage_needs_evidence_of_its_own() -> None:
    watch = GuardWatch([ERRORS], 0.05, 0.5)
    assert canary(watch, 8000, 0.01, 0.01).action is Action.ADVANCE
    harm = watch.judge().findings[0].e_worse
    watch.start_stage(0.25)
    verdict = watch.judge()
    assert verdict.action is Action.HOLD
    assert verdict.needed is not None
    assert verdict.findings[0].e_worse == pytest.approx(harm), "harm is not forgotten"
    assert canary(watch, 8000, 0.01, 0.01, share=0.25, seed=3).action is Action.ADVANCE


def test_what_is_needed_shrinks_as_evidence_comes() -> None:
    watch = GuardWatch([ERRORS], 0.05, 0.5)
    before = watch.judge().needed
    rng = np.random.default_rng(4)
    for at in range(300):
        watch.observe(Observation(Arm.CANDIDATE if at % 2 else Arm.STABLE, bool(rng.random() < 0.01), 0.01, str(at)))
    after = watch.judge().needed
    assert before is not None
    assert after is not None
    assert 0 < after < before


def test_a_split_that_is_not_as_planned_holds_and_is_named() -> None:
    watch = GuardWatch([ERRORS], 0.05, 0.1)
    for at in range(3000):
        watch.observe(Observation(Arm.CANDIDATE if at % 4 == 0 else Arm.STABLE, False, 0.01, str(at)))
    verdict = watch.judge()
    assert verdict.action is Action.HOLD
    assert "not split as planned" in verdict.reason


def test_a_key_counts_once_in_the_split() -> None:
    watch = GuardWatch([ERRORS], 0.05, 0.1)
    for _ in range(3000):
        watch.observe(Observation(Arm.CANDIDATE, False, 0.01, "one busy user"))
    assert "not split" not in watch.judge().reason


def test_disagreement_within_its_margin_is_tolerated_and_beyond_it_not() -> None:
    guard = GuardSettings(metric=Metric.DISAGREEMENT, margin=0.1)
    for every, action in ((100, Action.ADVANCE), (3, Action.ROLLBACK)):
        watch = GuardWatch([guard], 0.05, 0.0)
        for at in range(1, 1001):
            watch.observe(PairedObservation(bool(at % every), 0.0, 0.01, 0.01))
        assert watch.judge().action is action


def test_an_output_without_a_distance_is_as_far_off_as_can_be() -> None:
    watch = GuardWatch([GuardSettings(metric=Metric.OUTPUT_DRIFT, margin=0.1)], 0.05, 0.0)
    for _ in range(40):
        watch.observe(PairedObservation(False, math.nan, 0.01, 0.01))
    assert watch.judge().action is Action.ROLLBACK


def test_a_shadow_that_fails_is_no_bad_prediction_served() -> None:
    watch = GuardWatch([ERRORS], 0.05, 0.0)
    for _ in range(100):
        watch.observe(PairedObservation(False, 1.0, 0.01, 0.01, is_candidate_error=True))
    verdict = watch.judge()
    assert verdict.action is Action.ROLLBACK
    bad = verdict.findings[0].bad_predictions
    assert bad is not None
    assert bad.upper == 0


@pytest.mark.parametrize("is_paired", [True, False])
def test_labels_of_both_arms_or_of_either_decide(is_paired: bool) -> None:
    watch = GuardWatch([GuardSettings(metric=Metric.LOSS, margin=0.02)], 0.05, 0.5)
    rng = np.random.default_rng(5)
    for _ in range(3000):
        stable, candidate = float(rng.random() < 0.05), float(rng.random() < 0.2)
        if is_paired:
            watch.observe(LabelledObservation(stable, candidate))
        else:
            watch.observe(LabelledObservation(stable, None))
            watch.observe(LabelledObservation(None, candidate))
        if watch.judge().action is not Action.HOLD:
            break
    assert watch.judge().action is Action.ROLLBACK


@pytest.mark.parametrize("bounds", [None, (0.0, 50.0)])
def test_a_business_metric_that_falls_is_harm_where_higher_is_better(bounds: tuple[float, float] | None) -> None:
    guard = GuardSettings(
        metric=Metric.BUSINESS, name="basket", margin=1.0, direction=Direction.HIGHER_IS_BETTER, bounds=bounds
    )
    watch = GuardWatch([guard], 0.05, 0.5)
    rng = np.random.default_rng(6)
    for _ in range(1500):
        watch.observe(MetricObservation(Arm.STABLE, "basket", float(rng.normal(30, 5))))
        watch.observe(MetricObservation(Arm.CANDIDATE, "basket", float(rng.normal(26, 5))))
        watch.observe(MetricObservation(Arm.CANDIDATE, "another", 1e9))
    verdict = watch.judge()
    assert verdict.action is Action.ROLLBACK
    assert "basket" in verdict.reason
    difference = verdict.findings[0].difference
    assert difference == pytest.approx(4.0, abs=1.0)


def test_harm_in_one_segment_is_found_there() -> None:
    watch = GuardWatch([ERRORS.model_copy(update={"by_segment": True})], 0.05, 0.5)
    rng = np.random.default_rng(7)
    for at in range(12_000):
        segment = ("de", "fr", "it", "es")[at % 4]
        is_candidate = bool(rng.random() < 0.5)
        is_error = bool(rng.random() < (0.4 if is_candidate and segment == "fr" else 0.02))
        watch.observe(Observation(Arm.CANDIDATE if is_candidate else Arm.STABLE, is_error, 0.01, str(at), segment))
        if at % 50 == 0 and watch.judge().action is Action.ROLLBACK:
            break
    verdict = watch.judge()
    assert verdict.action is Action.ROLLBACK
    shares = [finding.alpha_share for finding in verdict.findings]
    assert sum(shares) <= 0.05
    assert {finding.segment for finding in verdict.findings} == {"", "de", "fr", "it", "es"}


def test_segments_beyond_the_first_count_overall_and_are_told() -> None:
    watch = GuardWatch([ERRORS.model_copy(update={"by_segment": True})], 0.05, 0.5)
    for at in range(3 * MOST_SEGMENTS):
        watch.observe(Observation((Arm.STABLE, Arm.CANDIDATE)[at % 2], False, 0.01, str(at), f"segment {at}"))
    verdict = watch.judge()
    assert len(verdict.findings) == 1 + MOST_SEGMENTS
    assert f"beyond the first {MOST_SEGMENTS}" in verdict.reason
    assert verdict.findings[0].stable_count + verdict.findings[0].candidate_count == 3 * MOST_SEGMENTS


@pytest.mark.slow
def test_alpha_holds_over_guards_segments_and_looks_together() -> None:
    guards = [ERRORS.model_copy(update={"by_segment": True}), LATENCY, LATENCY.model_copy(update={"quantile": 0.5})]
    wrong = 0
    for run in range(60):
        watch = GuardWatch(guards, 0.05, 0.5)
        rng = np.random.default_rng([8, run])
        for at in range(600):
            arm = Arm.CANDIDATE if rng.random() < 0.5 else Arm.STABLE
            watch.observe(
                Observation(arm, bool(rng.random() < 0.1), float(rng.exponential(0.02)), str(at), "ab"[at % 2])
            )
            if at % 50 == 49 and watch.judge().action is Action.ROLLBACK:
                wrong += 1
                break
    # Of 60, more than 9 at 5 % happen once in a thousand times.
    assert wrong <= 9


def test_a_guard_that_is_not_required_only_rolls_back() -> None:
    optional = LATENCY.model_copy(update={"is_required": False})
    verdict = canary(GuardWatch([optional], 0.05, 0.5), 200, 0.0, 0.0)
    assert verdict.action is Action.HOLD
    assert "no guard is required" in verdict.reason


def test_a_metric_without_bounds_says_how_much_more_it_takes_too() -> None:
    guard = GuardSettings(metric=Metric.BUSINESS, name="basket", margin=1.0)
    watch = GuardWatch([guard], 0.05, 0.25)
    assert watch.judge().needed == 4 * FEWEST, "a quarter of the requests are the candidate's"
    rng = np.random.default_rng(4)
    told = []
    for at in range(40_000):
        arm = Arm.CANDIDATE if at % 4 == 0 else Arm.STABLE
        watch.observe(Observation(arm, False, 0.01, str(at)))
        watch.observe(MetricObservation(arm, "basket", float(rng.normal(20.0, 8.0))))
        if at % 500 == 20:
            verdict = watch.judge()
            if verdict.action is Action.ADVANCE:
                break
            assert verdict.needed is not None
            assert f"{verdict.needed:,} requests more" in verdict.reason
            told.append(at + verdict.needed)
    assert verdict.action is Action.ADVANCE
    assert told[0] > 400, "some are known by now, and their spread with them"
    assert at / 3 < told[-1] < 3 * at, "an estimate"


def test_without_guards_nothing_advances() -> None:
    assert GuardWatch([], 0.05, 0.5).judge().action is Action.HOLD


def test_a_number_that_is_none_is_refused() -> None:
    watch = GuardWatch([LATENCY, GuardSettings(metric=Metric.LOSS, margin=0.02)], 0.05, 0.5)
    with pytest.raises(InvalidInputError, match="latency_s is nan"):
        watch.observe(Observation(Arm.STABLE, False, math.nan, "a"))
    with pytest.raises(InvalidInputError, match="candidate_loss is inf"):
        watch.observe(LabelledObservation(0.0, math.inf))


def test_a_watch_goes_on_where_its_state_was_written() -> None:
    guards = [
        ERRORS.model_copy(update={"by_segment": True}),
        LATENCY,
        GuardSettings(metric=Metric.BUSINESS, name="basket", margin=1.0),
        GuardSettings(metric=Metric.DISAGREEMENT, margin=0.1),
    ]
    kept = GuardWatch(guards, 0.05, 0.25)
    rng = np.random.default_rng(9)
    for at in range(800):
        arm = Arm.CANDIDATE if rng.random() < 0.25 else Arm.STABLE
        seen = [
            Observation(arm, bool(rng.random() < 0.1), float(rng.exponential(0.02)), str(at), "ab"[at % 2]),
            MetricObservation(arm, "basket", float(rng.normal())),
            PairedObservation(bool(at % 7), 0.0, 0.01, 0.012),
        ]
        for one in seen:
            kept.observe(one)
        if at % 200 == 100:
            revived = GuardWatch.from_state(json.loads(json.dumps(kept.to_state())))
            assert revived.to_state() == kept.to_state()
            kept = revived
    assert json.loads(json.dumps(kept.judge().to_dict()))["action"] in set(Action)


def test_without_callers_of_stable_only_pairs_are_compared() -> None:
    guards = [GuardSettings(metric=Metric.ERROR_RATE, margin=0.05), GuardSettings(metric=Metric.LOSS, margin=0.1)]
    watch = GuardWatch(guards, 0.05, 0.5)
    watch.start_stage(1.0, 0.25)
    for at in range(400):
        watch.observe(Observation(Arm.CANDIDATE, True, 0.01, f"u{at}"))
        watch.observe(LabelledObservation(0.0, None))
    untouched = watch.judge()
    assert [finding.stable_count for finding in untouched.findings] == [0, 0], "stable alone is no sample"
    for _ in range(100):
        watch.observe(PairedObservation(False, 1.0, None, None, is_candidate_error=True, is_stable_error=True))
    assert watch.judge().action is Action.HOLD, "both failed alike"
    for _ in range(100):
        watch.observe(PairedObservation(False, 1.0, None, None, is_candidate_error=True))
    assert watch.judge().action is Action.ROLLBACK


def test_what_is_needed_counts_requests_that_only_one_version_gets() -> None:
    guard = GuardSettings(metric=Metric.ERROR_RATE, margin=0.05)
    every, fourth = (GuardWatch([guard], 0.05, 1.0, share).judge().needed for share in (1.0, 0.25))
    assert every is not None
    assert fourth == 4 * every
    watch = GuardWatch([guard], 0.05, 0.5)
    for at in range(1000):
        watch.observe(Observation(Arm.CANDIDATE if at % 2 else Arm.STABLE, False, 0.01, f"u{at}"))
    watch.start_stage(1.0, 0.25)
    assert 0 < (watch.judge().needed or 0) <= fourth, "what the stage before took says nothing of this one"
    again = GuardWatch.from_state(json.loads(json.dumps(watch.to_state())))
    assert again.judge() == watch.judge()


def test_a_business_metric_is_not_waited_for_where_stable_earns_nothing() -> None:
    error_rate = GuardSettings(metric=Metric.ERROR_RATE, margin=0.2)
    clicks = GuardSettings(metric=Metric.BUSINESS, name="clicks", margin=0.1)
    watch = GuardWatch([error_rate, clicks], 0.05, 1.0)
    for _ in range(200):
        watch.observe(PairedObservation(True, 0.0, None, None))
    assert watch.judge().action is Action.ADVANCE
    alone = GuardWatch([clicks], 0.05, 1.0).judge()
    assert (alone.action, alone.needed) == (Action.HOLD, None)
    assert "nothing that clicks could be compared with is reported" in alone.reason


def test_latencies_of_callers_and_of_runs_alone_are_never_compared() -> None:
    guard = GuardSettings(metric=Metric.LATENCY, margin=0.2, quantile=0.5)
    watch = GuardWatch([guard], 0.05, 0.5)
    for at in range(400):
        watch.observe(Observation(Arm.CANDIDATE if at % 2 else Arm.STABLE, False, 0.1 + 0.01 * (at % 7), f"u{at}"))
    watch.start_stage(1.0)
    for at in range(300):
        watch.observe(PairedObservation(True, 0.0, 0.001 + 0.0005 * (at % 7), 0.004 + 0.0005 * (at % 5)))
    assert watch.judge().action is Action.ROLLBACK, "slower by runs alone, though both are fast beside what callers saw"


def disagreeing(of_candidate: int, of_stable: int, metric: Metric = Metric.DISAGREEMENT) -> GuardWatch:
    """2,000 requests, so many of a hundred of which the two answer differently, and of twenty of which stable was asked twice."""
    watch = GuardWatch([GuardSettings(metric=metric, margin=0.05)], 0.05, 0.0)
    for at in range(2000):
        noise = None if at % 2 else (at // 2 * 37) % 100 >= of_stable
        distance = None if noise is None else float(not noise)
        differs = (at * 61) % 100 < of_candidate
        seen = PairedObservation(not differs, float(differs), None, None, noise_agrees=noise, noise_distance=distance)
        watch.observe(seen)
    return watch


@pytest.mark.parametrize("metric", [Metric.DISAGREEMENT, Metric.OUTPUT_DRIFT])
def test_what_stable_differs_from_itself_is_no_harm_of_the_candidates(metric: Metric) -> None:
    assert disagreeing(12, 0, metric).judge().action is Action.ROLLBACK, "of a stable that is steady"
    excused = disagreeing(12, 10, metric)
    assert excused.judge().action is Action.HOLD, "and nothing advances on it"
    assert "stable with itself 0.1 (" in excused.judge().findings[0].reason
    assert disagreeing(40, 10, metric).judge().action is Action.ROLLBACK, "far beyond its own"
    again = GuardWatch.from_state(json.loads(json.dumps(excused.to_state())))
    assert again.judge() == excused.judge()


def test_a_steady_stable_keeps_no_rollback_waiting() -> None:
    plain, measured = (
        GuardWatch([GuardSettings(metric=Metric.DISAGREEMENT, margin=0.05)], 0.05, 0.0) for _ in range(2)
    )
    for _ in range(15):
        plain.observe(PairedObservation(False, 1.0, None, None))
        measured.observe(PairedObservation(False, 1.0, None, None, noise_agrees=True, noise_distance=0.0))
    assert plain.judge().action is measured.judge().action is Action.ROLLBACK
