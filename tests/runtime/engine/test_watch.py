"""A model that is watched: wrong answers are found and quarantined, drift is measured again, and no call is lost meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import RunOptions, Session
from runtime.bundle.bundle import Bundle
from runtime.engine import own_load
from runtime.engine.drift import MIN_CALLS, Drift, Verdict
from runtime.engine.engine import Engine, EngineSettings
from runtime.engine.measuring import MEASURING
from runtime.engine.model import Model
from runtime.engine.own_load import Clocks
from runtime.engine.reference import Reference
from runtime.engine.tally import Outcome, Switch, SwitchReason
from runtime.engine.watch import LOOK_EVERY_S, Watch, WatchSettings
from runtime.errors import BackendUnavailableError, ExecutionError, NoCandidateError, WrongUseError
from runtime.selection.candidates import Candidate
from runtime.selection.choice import Choice, Ranked
from runtime.selection.cost import CostModel
from runtime.selection.latency import Latency
from runtime.selection.settings import Objective, SelectionSettings
from runtime.selection.trying import Progress
from runtime.tensors import Array
from tests.runtime.selection.fakes import CLASSES, FakeBackend, FakeSession, backends, machine, make_bundle

X = np.eye(CLASSES, dtype=np.float32) + 1
PATIENCE_S = 10.0
EVERY_CALL = WatchSettings(shadow_every=1, recalibrate_every_s=600)


@dataclass
class Lab(FakeBackend):
    """A backend whose variants can be made to go wrong, and which remembers what happened to them."""

    clock: Clock | None = None
    wrong: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    unopenable: set[str] = field(default_factory=set)
    takes_ms: dict[str, float] = field(default_factory=dict)
    waits_ms: float = 0.0
    """Of every call, while other threads of the process run."""
    calls: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    inside: Callable[[str], object] = lambda name: None

    def open(self, file: Path, options: RunOptions) -> Session:
        if file.name in self.unopenable:
            raise BackendUnavailableError("its device is gone")
        self.opened.append(file.name)
        return LabSession(self, file.name)


class LabSession(FakeSession):
    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__({})
        self._lab = lab
        self._name = name
        self._is_closed = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert not self._is_closed, "a session is closed when nothing runs on it any more"
        self._lab.calls.append(self._name)
        self._lab.inside(self._name)
        assert not self._is_closed, "a session is closed when nothing runs on it any more"
        if self._name in self._lab.broken:
            raise ExecutionError("operator Foo is not implemented")
        if self._lab.clock is not None:
            self._lab.clock.now_ns += int((self._lab.takes_ms.get(self._name, 1.0) + self._lab.waits_ms) * 1e6)
            self._lab.clock.waited_ns += int(self._lab.waits_ms * 1e6)
        return {"y": -inputs["x"] if self._name in self._lab.wrong else inputs["x"].copy()}

    def close(self) -> None:
        self._is_closed = True
        self._lab.closed.append(self._name)


@dataclass
class Clock:
    """A clock of ours; what passes is the calling thread's own work, but for `waited_ns` while the thread `other` ran."""

    now_ns: int = 1_000_000_000
    waited_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns

    @property
    def clocks(self) -> Clocks:
        return Clocks(self, lambda: self.now_ns - self.waited_ns, lambda: {7: self.waited_ns})


@dataclass
class Bed:
    """A model on the lab, its watch on a clock of ours, jobs run at once and here."""

    model: Model
    watch: Watch
    lab: Lab
    clock: Clock
    bundle: Bundle
    next_choice: list[Choice | Exception] = field(default_factory=list)
    """What measuring again gives, in turn."""
    measured: list[int] = field(default_factory=list)
    """When that was done."""

    def call(self, times: int = 1) -> None:
        for _ in range(times):
            self.model.predict(X)

    def call_for(self, seconds: float) -> None:
        end = self.clock.now_ns + seconds * 1e9
        while self.clock.now_ns < end:
            self.call()
            self.clock.now_ns += int(LOOK_EVERY_S * 1e9 / MIN_CALLS / 2)


def choice_of(bundle: Bundle, lab: FakeBackend, *names: str, agreement: float = 1.0, ms: float = 1.0) -> Choice:
    """The variants in this order, all `ms` a call of one row; four rows cost as much as one."""
    variants = {variant.name: variant for variant in bundle.variants}
    ranked = tuple(
        Ranked(
            Candidate(variants[name], lab, RunOptions(1)),
            Latency(ms, ms, 0.0, 9, 100),
            1,
            CostModel(((1, ms), (8, ms))),
            None,
            agreement,
            10.0,
            f"{name}: measured",
        )
        for name in names
    )
    return Choice(bundle.name, bundle.version, Objective.LATENCY, ranked, (), "agreement")


Make = Callable[..., Bed]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(
        *names: str,
        settings: WatchSettings = EVERY_CALL,
        start: Callable[[Callable[[], None]], None] = lambda job: job(),
        targets: Mapping[str, float] | None = None,
        **options: float,
    ) -> Bed:
        bundle = make_bundle(tmp_path / "b", {"ref": {}, "fast": {}, "next": {}}, targets=targets)
        clock = Clock()
        lab = Lab(clock=clock)

        def choose_again(model: Model, progress: Progress) -> Choice:
            bed.measured.append(clock.now_ns)
            progress("measuring", 0.5)
            answer = bed.next_choice.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        cap_mb = (targets or {}).get("memory_mb")
        watch = Watch(settings, choose_again, lambda: 2, cap_mb, clock.clocks, start, seed=1)
        model = Model(bundle, choice_of(bundle, lab, *(names or ("fast", "next", "ref")), **options), watch)
        bed = Bed(model, watch, lab, clock, bundle)
        return bed

    return build


# Shadow checks


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
    assert (totals.quarantined, totals.switches, totals.disagreements) == (1, 1, 6)
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
    assert bed.watch.totals.shadow == "no shadow checks: the reference itself answers"


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
    assert (totals.switches, totals.quarantined, totals.failures) == (0, 0, 1), "what still answers is in no quarantine"
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
    bed = make("fast", "next")
    bed.call(5)
    assert bed.watch.totals.shadow == "no shadow checks: the reference ref does not run here"
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
    assert Reference(bed.bundle, choice, None).candidate.backend.name == "fake-cpu"


def test_a_first_choice_that_cannot_be_opened_is_said(make: Make) -> None:
    bed = make()
    bed.lab.unopenable = {"fast"}
    model = Model(bed.bundle, bed.model.choice)
    assert model.candidate.variant.name == "next"
    assert model.fallback is not None
    assert model.fallback.startswith("fast on fake-cpu, 1 thread cannot be opened (its device is gone); next on")
    assert model.fallbacks == [model.fallback]


def test_a_fallback_is_told_until_a_calibration_chose_again(make: Make) -> None:
    bed = make()
    bed.lab.wrong = {"fast"}
    bed.call(20)
    assert bed.model.fallback == bed.model.fallbacks[-1]
    bed.model.adopt(choice_of(bed.bundle, bed.lab, "ref"), "a test")
    assert bed.model.fallback is None
    assert len(bed.model.fallbacks) == 1, "what happened stays known"


# Latency drift


def test_drift_is_measured_again_and_the_new_choice_answers(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "next", "ref", ms=2.0)]
    bed.lab.takes_ms = {"fast": 9.0, "next": 2.0}
    bed.call_for(60)
    assert len(bed.measured) == 1
    assert bed.model.candidate.variant.name == "next"
    assert bed.model.cost_s(1) == 0.002
    totals = bed.watch.totals
    assert (totals.recalibrations, totals.switches) == (1, 1)
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
    assert bed.watch.totals.switches == 0
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
    others = [bed.model._service.claim, replace(bed.model._service.claim), replace(bed.model._service.claim)]
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
        timed.append(bed.watch.enter(bed.model._service.claim) is not None)
        bed.watch.leave(bed.model._service.claim, None, 0)
    assert 5 <= sum(timed) <= 8, "about 64 of 20,000"


def test_a_new_choice_that_does_not_open_leaves_the_old_one(make: Make) -> None:
    bed = make()
    bed.next_choice = [choice_of(bed.bundle, bed.lab, "next")]
    bed.lab.unopenable = {"next"}
    bed.lab.takes_ms = {"fast": 9.0}
    bed.call_for(60)
    assert bed.model.candidate.variant.name == "fast"
    assert bed.watch.totals.switches == 0
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


# With threads


def test_the_old_session_is_closed_when_its_last_call_ends(make: Make) -> None:
    bed = make(settings=WatchSettings(shadow_every=0))
    inside, go_on = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        if name == "fast" and threading.current_thread().name == "slow call":
            inside.set()
            assert go_on.wait(PATIENCE_S)

    bed.lab.inside = wait
    answers: list[Array] = []
    slow = threading.Thread(target=lambda: answers.append(bed.model.predict(X)["y"]), name="slow call")
    slow.start()
    assert inside.wait(PATIENCE_S)
    assert bed.model.adopt(choice_of(bed.bundle, bed.lab, "next"), "a test")
    bed.call()
    assert bed.lab.calls[-1] == "next"
    assert bed.lab.closed == []
    go_on.set()
    slow.join(PATIENCE_S)
    assert len(answers) == 1
    assert bed.lab.closed == ["fast"]


def test_switching_to_and_fro_under_load_fails_no_call(make: Make) -> None:
    jobs: list[threading.Thread] = []

    def start(job: Callable[[], None]) -> None:
        jobs.append(threading.Thread(target=job))
        jobs[-1].start()

    bed = make(settings=WatchSettings(shadow_every=7), start=start)
    failures: list[Exception] = []
    stop = threading.Event()
    answered = [threading.Event() for _ in range(3)]

    def ask(who: int) -> None:
        while not stop.is_set():
            try:
                bed.model.predict(X)
                answered[who].set()
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        bed.model.adopt(choice_of(bed.bundle, bed.lab, ("next", "fast")[turn % 2]), "a test")
    assert all(each.wait(PATIENCE_S) for each in answered)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    bed.model.close()
    for job in jobs:
        job.join(PATIENCE_S)
    assert failures == []
    assert len(bed.lab.closed) == len(bed.lab.opened), "every session that was opened is closed, once"


def test_closing_cancels_a_measurement_that_is_under_way(make: Make, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "c", {"ref": {}, "fast": {}})
    lab = Lab()
    is_measuring, has_ended = threading.Event(), threading.Event()

    def choose_again(model: Model, progress: Progress) -> Choice:
        is_measuring.set()
        try:
            while True:
                progress("measuring", 0.1)
        finally:
            has_ended.set()

    watch = Watch(WatchSettings(), choose_again, lambda: 2)
    model = Model(bundle, choice_of(bundle, lab, "fast", "ref"), watch)
    assert watch._busy.acquire()
    threading.Thread(target=watch._work, args=(model, model._service, None, Drift(1, 9.0, 1.0))).start()
    assert is_measuring.wait(PATIENCE_S)
    model.close()
    assert has_ended.is_set()
    assert watch.totals.failures == 0


@pytest.mark.slow
def test_an_engine_measures_again_without_keeping_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"ref": {"ms": 0.5}, "fast": {"ms": 0.1}})
    selection = SelectionSettings(budget_s=0.1, isolate=False)
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"), machine(), backends())
    model = engine.load(bundle.root)
    (kept,) = (tmp_path / "home" / "calibrations").iterdir()
    before = kept.read_bytes()
    again = engine._choose_again(model, lambda what, share: None)
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
    again = engine._choose_again(model, lambda what, share: None)
    assert {ranked.candidate.options.threads for ranked in again.ranked} == {1}, "a core was taken away"
    assert engine.hardware.cores.threads == 1
    engine.close()


@pytest.mark.parametrize(
    "wrong", [{"shadow_every": -1}, {"recalibrate_every_s": -1}, {"recalibrate_every_s": float("nan")}]
)
def test_settings_that_cannot_be_are_wrong_use(wrong: dict[str, float]) -> None:
    with pytest.raises(WrongUseError, match=next(iter(wrong))):
        WatchSettings(**wrong)  # type: ignore[arg-type]
