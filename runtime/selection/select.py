"""The one way in: the kept choice where it holds, else candidates are tried, measured, decided upon, and kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtime.backends.base import Backend
from runtime.bundle.bundle import Bundle
from runtime.bundle.locate import source_of
from runtime.hardware import Hardware
from runtime.selection import cache
from runtime.selection.bench import Bench, BenchUnavailableError
from runtime.selection.candidates import CPU, Candidate, Rejected, enumerate_candidates, rejected_because
from runtime.selection.choice import Choice
from runtime.selection.decide import Origin, decide
from runtime.selection.goal import Goal, goal_for
from runtime.selection.local_bench import LocalBench
from runtime.selection.measure import Measurement, measure
from runtime.selection.settings import SelectionSettings
from runtime.selection.trial import MB, IsolatedBench
from runtime.selection.trying import Progress, promise_on

log = logging.getLogger(__name__)

TRIAL_MEMORY_SHARE: Final = 0.8
"""Of the memory available now: what is left keeps the machine, and this process, alive."""


def choose(
    bundle: Bundle,
    hardware: Hardware,
    backends: Sequence[Backend],
    settings: SelectionSettings,
    cache_folder: Path | None,
    progress: Progress | None,
    seen: str | None = None,
) -> Choice:
    """What to run `bundle` with on this machine.

    From the cache no engine is imported. Otherwise it blocks for `settings.budget_s`, for what engines take to load, and for as
    long as the last call of a large model goes beyond. `NoCandidateError` tells every candidate's reason; `BundleError` when the
    samples are damaged; `WrongUseError` for a filter that names nothing.

    `seen` is this machine at a `cache.glance` before it was probed, where `hardware` is this machine: `recall` goes by it.
    """
    goal = goal_for(bundle, settings)
    key = cache.key_for(bundle, hardware.fingerprint(), backends, goal, settings, seen)
    kept = cache.Kept(None)
    if cache_folder is not None and not settings.refresh:
        kept = cache.read(cache_folder, key, bundle, backends)
        if kept.choice is not None:
            return kept.choice
    candidates, rejected = enumerate_candidates(
        bundle, hardware, backends, settings.backends, settings.variants, settings.threads
    )
    if bundle.manifest is not None and bundle.manifest.samples is not None:
        bundle.check_file(bundle.manifest.samples)
    measurement, bench_warning = _measure(bundle, hardware, candidates, goal, settings, progress)
    origin = Origin(bundle.name, bundle.version, _guard_text(bundle, measurement), source_of(bundle))
    choice = decide(measurement.measured, [*measurement.rejected, *rejected], goal, origin)
    choice = replace(
        choice,
        trial_s=measurement.trial_s,
        measuring_s=measurement.measuring_s,
        loading_s=measurement.loading_s,
    )
    untried = _untried_warning(measurement, settings.budget_s)
    choice = choice.with_warnings(bench_warning, _guard_warning(bundle, measurement), untried)
    # A choice among what could be tried without a process is not kept: the next time there may be one.
    keep_warning = None
    if cache_folder is not None and bench_warning is None:
        keep_warning = cache.write(cache_folder, key, choice)
    return choice.with_warnings(kept.warning, keep_warning)


def _measure(
    bundle: Bundle,
    hardware: Hardware,
    candidates: Sequence[Candidate],
    goal: Goal,
    settings: SelectionSettings,
    progress: Progress | None,
) -> tuple[Measurement, str | None]:
    reference = None if _has_answers(bundle) else bundle.variants[0].name

    def run(bench: Bench, tried: Sequence[Candidate]) -> Measurement:
        try:
            return measure(
                bench,
                tried,
                reference,
                goal,
                settings.budget_s,
                settings.seed,
                time.monotonic,
                progress or _say_nothing,
                promise_on(hardware),
            )
        finally:
            bench.close()

    if not settings.isolate:
        return run(LocalBench(bundle, settings.seed), candidates), None
    memory_mb = settings.trial_memory_mb
    if memory_mb is None and hardware.memory.available_bytes is not None:
        memory_mb = TRIAL_MEMORY_SHARE * hardware.memory.available_bytes / MB
    isolated = IsolatedBench(bundle, settings.backend_source, settings.seed, settings.trial_timeout_s, memory_mb)
    try:
        return run(isolated, candidates), None
    except BenchUnavailableError as error:
        why = str(error)
    kept, left_out = without_isolation(candidates, bundle.variants[0].name)
    text = (
        f"nothing could be tried in a process of its own, {why}: only {bundle.variants[0].name} on the processor was "
        "measured, in this process"
    )
    log.warning(text)
    measurement = run(LocalBench(bundle, settings.seed), kept)
    return replace(measurement, rejected=(*measurement.rejected, *left_out)), text


def _has_answers(bundle: Bundle) -> bool:
    """Whether the reference's answers are in the bundle: then it need not be opened for them, which may take PyTorch seconds."""
    samples = bundle.samples()
    return samples is not None and len(samples) > 0 and bool(samples.outputs)


def without_isolation(candidates: Sequence[Candidate], reference: str) -> tuple[list[Candidate], list[Rejected]]:
    """Those that may run untried in this process, and the others with that reason.

    A candidate that crashes would take this process with it. The variant that the bundle was made from, on the processor, is
    what would be opened here anyway; whatever else might be faster is not worth the process.
    """
    kept = [c for c in candidates if c.variant.name == reference and c.backend.device == CPU]
    reason = "not tried, since it could have taken this process with it: no other process can be started"
    return kept, [rejected_because(c, reason) for c in candidates if c not in kept]


def _untried_warning(measurement: Measurement, budget_s: float) -> str | None:
    if not measurement.untried:
        return None
    return (
        f"{measurement.untried} ways to run were not tried within the budget of {budget_s:g} s; a larger one "
        "(--budget) may find a faster one"
    )


def _say_nothing(what: str, share: float) -> None:
    """No one watches."""


def _rows_seen(measurement: Measurement) -> int:
    return max((m.guard.rows for m in measurement.measured), default=0)


def _guard_text(bundle: Bundle, measurement: Measurement) -> str:
    rows = _rows_seen(measurement)
    if any(m.guard.accuracy is not None for m in measurement.measured):
        return f"accuracy on {rows} labelled samples"
    if not any(m.guard.agreement is not None for m in measurement.measured):
        return "nothing: there is no reference to compare with"
    kind = "samples" if measurement.is_sampled else "random rows"
    return f"agreement with {bundle.variants[0].name} on {rows} {kind}"


def _guard_warning(bundle: Bundle, measurement: Measurement) -> str | None:
    if any(m.guard.accuracy is not None for m in measurement.measured):
        return None
    if any(m.guard.agreement is not None for m in measurement.measured):
        lack = "samples have no labels" if measurement.is_sampled else "no samples"
        return f"{lack}: accuracy is not guarded, only {_guard_text(bundle, measurement)}"
    return f"the reference {bundle.variants[0].name} does not run here and there are no samples: nothing is guarded"
