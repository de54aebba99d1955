"""The fixture `make`: watched models on the bed of `bed`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runtime.engine.model import Model
from runtime.engine.watch import Watch
from runtime.engine.watch_settings import WatchSettings
from runtime.selection.choice import Choice
from runtime.selection.trying import Progress
from tests.runtime.engine.bed import Bed, Clock, Lab, Make, choice_of
from tests.runtime.selection.fakes import make_bundle

EVERY_CALL = WatchSettings(shadow_every=1, recalibrate_every_s=600)


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
