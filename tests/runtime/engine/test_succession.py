"""One candidate takes over from another while threads call the model: no call is lost, every session is closed once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.engine.drift import Drift
from runtime.engine.model import Model
from runtime.engine.watch import Watch
from runtime.engine.watch_settings import WatchSettings
from runtime.selection.choice import Choice
from runtime.selection.trying import Progress
from runtime.tensors import Array
from tests.runtime.engine.bed import Lab, Make, X, choice_of
from tests.runtime.selection.fakes import make_bundle

PATIENCE_S = 10.0
ROOT = Path(__file__).resolve().parents[3]


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
    threading.Thread(target=watch._work, args=(model, model._succession.service, None, Drift(1, 9.0, 1.0))).start()
    assert is_measuring.wait(PATIENCE_S)
    model.close()
    assert has_ended.is_set()
    assert watch.totals.failures == 0


PROGRAM = """
import sys, threading
from pathlib import Path
from runtime.engine.model import Model
from runtime.engine.watch import Watch
from runtime.engine.watch_settings import WatchSettings
from tests.runtime.engine.bed import Lab, X, choice_of
from tests.runtime.selection.fakes import make_bundle

bundle = make_bundle(Path(sys.argv[1]), {"ref": {}, "fast": {}})
lab, is_inside = Lab(), threading.Event()
watch = Watch(WatchSettings(shadow_every=1), lambda model, progress: model.choice, lambda: 2)

def inside(name):
    if name == "ref":
        is_inside.set()
        while not watch._is_closed:
            threading.Event().wait(0.001)
        print("left", flush=True)

lab.inside = inside
model = Model(bundle, choice_of(bundle, lab, "fast", "ref"), watch)
model.predict(X)
assert is_inside.wait(10)
"""


@pytest.mark.slow
def test_what_a_watch_has_under_way_ends_before_the_interpreter_does(tmp_path: Path) -> None:
    """A thread that is inside an engine at the end takes the process with it, or keeps it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "b")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
