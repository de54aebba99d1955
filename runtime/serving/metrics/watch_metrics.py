"""Metrics of what keeps a model honest while it serves: shadow checks, looks at its times, recalibrations, switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from runtime.engine.drift import Verdict
from runtime.engine.model import Model
from runtime.engine.tally import Outcome, WatchTotals
from runtime.serving.metrics.labels import Labels
from runtime.telemetry.exposition import Family, Kind, Sample

DRIFTS = (Verdict.SLOWER, Verdict.FASTER)
"""What models are measured again for."""


def watch_families(models: Sequence[tuple[Labels, Model]]) -> list[Family]:
    """Of models with the labels of each. What may happen is told as 0 before it does; switches have too many names for that."""
    watched = [(labels, model.watch.totals) for labels, model in models if model.watch is not None]
    return [
        Family(
            "edgeward_shadow_checks_total",
            Kind.COUNTER,
            "Answers that were compared with the reference variant's, by result.",
            [sample for labels, totals in watched for sample in _checks(labels, totals)],
        ),
        Family(
            "edgeward_latency_verdicts_total",
            Kind.COUNTER,
            "Looks at how long calls take against what was measured, by what they found.",
            [
                ({**labels, "verdict": verdict.value}, totals.verdicts[verdict])
                for labels, totals in watched
                for verdict in Verdict
            ],
        ),
        Family(
            "edgeward_recalibrations_total",
            Kind.COUNTER,
            "Times that a model in service was measured again, by what for and what came of it.",
            [
                ({**labels, "reason": reason.value, "outcome": outcome.value}, totals.recalibrated[reason, outcome])
                for labels, totals in watched
                for reason, outcome in product(DRIFTS, Outcome)
            ],
        ),
        Family(
            "edgeward_backend_switches_total",
            Kind.COUNTER,
            "Times that another variant, backend or setting took over from the one before, by reason.",
            [sample for labels, model in models for sample in _switches(labels, model)],
        ),
    ]


def _checks(labels: Mapping[str, str], totals: WatchTotals) -> list[Sample]:
    results = {
        "agreed": totals.shadow_checks - totals.disagreements,
        "disagreed": totals.disagreements,
        "failed": totals.shadow_failures,
    }
    return [({**labels, "result": result}, count) for result, count in results.items()]


def _switches(labels: Mapping[str, str], model: Model) -> list[Sample]:
    return [
        ({**labels, "from": switch.before, "to": switch.after, "reason": switch.reason.value}, count)
        for switch, count in sorted(model.switches.copy().items())
    ]
