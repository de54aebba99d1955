"""The report on a file of rows: `make_report` runs them through a model and says what drifted and where it errs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from runtime.bundle.manifest import Task
from runtime.bundle.samples import Samples
from runtime.engine.model import Model
from runtime.errors import InvalidInputError, WrongUseError
from runtime.monitoring.analysis import calibration, called, confusion, newest_disagreements, worst_slices
from runtime.monitoring.bundled import as_answered, bundled_baseline
from runtime.monitoring.decision import MIN_ROWS
from runtime.monitoring.figures import Measured, figures
from runtime.monitoring.layout import Role, columns
from runtime.monitoring.monitor import Monitor, Window
from runtime.monitoring.performance import Labelled, LabelledPerformance, estimate_accuracy
from runtime.monitoring.reference import Baseline
from runtime.monitoring.summary import Summary
from runtime.tensors import Array

BLOCKS: Final = 64
"""A file is read as a stream of so many blocks, so that the report can say from which row on it drifts."""
MIN_BLOCK_ROWS: Final = 100
TIMED_ROWS: Final = 200
"""Answered one by one for the p95 of a request of one row: of fewer, a p95 is chance."""
TIMED_S: Final = 5.0
"""Nobody waits longer for that; a slow model is timed on fewer."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as they came: inputs, labels where known, and tags, one value a row each."""

    inputs: Mapping[str, Array]
    labels: Array | None = None
    tags: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def make_report(model: Model, rows: Rows, progress: Progress = lambda rows: None) -> dict[str, Any]:
    """Everything, as JSON. `WrongUseError` when there is nothing to compare with, or too little."""
    count = len(rows)
    if count < MIN_ROWS:
        raise WrongUseError(f"{count} rows; drift needs at least {MIN_ROWS}, and 1,000 to see small ones")
    samples = model.bundle.samples()
    baseline = bundled_baseline(model.bundle)
    if baseline is None:
        raise WrongUseError(
            f"{model.name!r} has neither a profile nor samples to compare with; build a bundle with: edgeward bundle build"
        )
    answered = None if samples is None else _predict(model, samples.inputs, lambda _: None)
    if samples is not None and answered is not None:
        baseline = as_answered(baseline, samples.inputs, answered)
    started = time.perf_counter()
    outputs = _predict(model, rows.inputs, progress)
    took_s = time.perf_counter() - started
    values = columns(baseline.features, rows.inputs, outputs)
    monitor = _monitor(baseline, values, count)
    document = monitor.document()
    scores = _scores(model)
    report: dict[str, Any] = {
        "model": model.name,
        "version": model.version,
        "backend": model.serving,
        "rows": count,
        "has_labels": rows.labels is not None,
        "is_drifting": document["is_drifting"],
        "verdicts": document["verdicts"],
        "baseline": document["baseline"],
        "features": document["features"],
    }
    estimate = None
    if scores is not None and samples is not None and samples.labels is not None and answered is not None:
        sure = columns(baseline.features, samples.inputs, answered)
        right = np.array(sure[f"{scores}.class"]) == np.array(_names(samples.labels))
        confidence = np.asarray(sure[f"{scores}.confidence"])
        estimate = estimate_accuracy(confidence, right, np.asarray(values[f"{scores}.confidence"])).to_dict()
        report["reference_accuracy"] = round(float(right.mean()), 5)
    report["estimate"] = estimate
    report["errors"] = (
        None if rows.labels is None else _errors(model, rows, values, scores, report.get("reference_accuracy"), samples)
    )
    report["figures"] = _figures(model, report, rows, count / took_s if took_s > 0 else None)
    return report


def _monitor(baseline: Baseline, values: Mapping[str, Any], count: int) -> Monitor:
    monitor = Monitor(baseline)
    step = max(-(-count // BLOCKS), MIN_BLOCK_ROWS)
    starts = list(range(0, count, step))
    if len(starts) > 1 and count - starts[-1] < MIN_BLOCK_ROWS // 2:
        starts.pop()  # a few rows left over go with those before them
    for at, first in enumerate(starts):
        last = starts[at + 1] if at + 1 < len(starts) else count
        summary = Summary(baseline)
        summary.update_columns({name: value[first:last] for name, value in values.items()})
        monitor.add(Window(summary, float(first), float(last)))
    return monitor


def _predict(model: Model, inputs: Mapping[str, Array], progress: Progress) -> dict[str, Array]:
    count, step, parts = len(next(iter(inputs.values()))), max(model.best_batch(), 1), []
    for first in range(0, count, step):
        chunk = {name: value[first : first + step] for name, value in inputs.items()}
        parts.append(model.predict(chunk))
        progress(min(step, count - first))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scores(model: Model) -> str | None:
    """The output that holds a classifier's scores."""
    manifest = model.bundle.manifest
    if manifest is None or manifest.task is not Task.CLASSIFICATION:
        return None
    return next((t.name for t in manifest.outputs if len(t.shape) == 2 and t.shape[1] > 1), None)


def _names(labels: Array) -> list[str]:
    return [str(int(label)) for label in labels.reshape(-1).tolist()]


def _errors(
    model: Model,
    rows: Rows,
    values: Mapping[str, Any],
    scores: str | None,
    reference_accuracy: float | None,
    samples: Samples | None,
) -> dict[str, Any]:
    if scores is None:
        raise WrongUseError(f"{model.name!r} is no classifier; labels can be compared with classes alone")
    assert rows.labels is not None, "asked for with labels alone"
    if rows.labels.dtype.kind not in "iu" or rows.labels.ndim != 1:
        raise InvalidInputError(
            f"labels are {rows.labels.dtype} {list(rows.labels.shape)}; expected whole numbers [row], the index of each class"
        )
    names = model.bundle.class_names()
    labels, predicted = _names(rows.labels), list(values[f"{scores}.class"])
    confidence = np.nan_to_num(np.asarray(values[f"{scores}.confidence"]))
    is_right = np.array(predicted) == np.array(labels)
    inputs = {f.name for f in bundled_features(model) if f.role is Role.INPUT}
    sliced = {name: value for name, value in values.items() if name in inputs}
    sliced |= {f"tag {name}": value.tolist() for name, value in rows.tags.items()} | {"label": called(labels, names)}
    test = None
    if reference_accuracy is not None and samples is not None:
        test = LabelledPerformance(round(reference_accuracy * len(samples)), len(samples))
        for at, (answer, label) in enumerate(zip(predicted, labels, strict=True)):
            test.add(Labelled(str(at), answer, label, answer == label, float(at)))
    return {
        "accuracy": round(float(is_right.mean()), 5),
        "wrong_rows": int((~is_right).sum()),
        "loss": None
        if test is None or test.loss is None
        else {"text": str(test.loss), "since_row": int(test.loss.since)},
        "slices": [found.to_dict() for found in worst_slices(sliced, ~is_right)],
        "confusion": confusion(called(predicted, names), called(labels, names)),
        "calibration": calibration(confidence, is_right),
        "newest_disagreements": newest_disagreements(called(predicted, names), called(labels, names), confidence),
    }


def bundled_features(model: Model) -> Sequence[Any]:
    """The features of the model's bundle."""
    baseline = bundled_baseline(model.bundle)
    return () if baseline is None else baseline.features


def _figures(
    model: Model, report: Mapping[str, Any], rows: Rows, live_rows_per_s: float | None
) -> list[dict[str, Any]]:
    """Live is the file: its labels, its first rows one by one, all of it at once."""
    errors, estimate, p95_s, batch = report["errors"], report["estimate"], model.p95_s(), model.best_batch()
    test = Measured(
        report.get("reference_accuracy"), None if p95_s is None else p95_s * 1e3, batch / model.cost_s(batch)
    )
    live = Measured(None if errors is None else errors["accuracy"], _p95_ms(model, rows), live_rows_per_s)
    return figures(
        model.bundle.manifest,
        model.candidate.variant.name,
        test,
        live,
        None if estimate is None else estimate["accuracy"],
    )


def _p95_ms(model: Model, rows: Rows) -> float:
    took: list[float] = []
    for at in range(min(len(rows), TIMED_ROWS)):
        if sum(took) > TIMED_S:
            break
        row = {name: value[at : at + 1] for name, value in rows.inputs.items()}
        started = time.perf_counter()
        model.predict(row)
        took.append(time.perf_counter() - started)
    return float(np.quantile(took, 0.95)) * 1e3
