"""What workers do with a variant's file: describe its tensors, answer rows, convert it. Called through `isolated` only.

Arguments and results are JSON; arrays travel in npz files.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.backends.base import RunOptions
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.building.causes import altered
from runtime.building.engines import first_backend
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, Variant, parse_manifest
from runtime.bundle.samples import Samples, samples_from_npz, samples_to_npz
from runtime.selection.guard import class_of
from runtime.tensors import Array, TensorSpec

CHUNK_ROWS: Final = 32
_TAKE_IN: Final = {Format.ONNX: "onnx_recipes", Format.TFLITE: "tflite_recipes", Format.TORCH: "torch_recipes"}


def take_in(source: str, target: str, format_: str) -> str:
    """Writes a source to `target`, checked and self-contained; its precision."""
    module = import_module(f"runtime.building.{_TAKE_IN[Format(format_)]}")
    return str(module.take_in(source, target))


def describe(file: str, format_: str) -> dict[str, Any]:
    """The file's tensors as its engine reports them, and scale and zero point of those that are quantised."""
    session = first_backend(Format(format_)).open(Path(file), RunOptions())
    found: dict[str, Any] = {"inputs": _json(session.inputs), "outputs": _json(session.outputs)}
    session.close()
    if Format(format_) is Format.TFLITE:
        from runtime.building.tflite_recipes import quantisation_of

        found["quantisation"] = quantisation_of(file)
    return found


def answer(root: str, manifest: str, variant: str, rows: str, answers: str) -> str:
    """Writes the variant's outputs for all rows to `answers`; the name of the backend that gave them."""
    bundle, chosen, samples = _opened_order(root, manifest, variant, rows)
    backend = first_backend(chosen.format)
    opened = open_variant(bundle, chosen, backend, RunOptions())
    outputs = _answers(opened, samples.inputs)
    opened.close()
    Path(answers).write_bytes(samples_to_npz(Samples(samples.inputs, outputs, None)))
    return backend.name


def try_alterations(
    root: str, manifest: str, variant: str, rows: str, names: Sequence[str], time_s: float
) -> dict[str, float]:
    """The accuracy with each alteration of the model's tensors, by its name; those tried within `time_s`."""
    altered_answers = _altered_answers(root, manifest, variant, rows, names, time_s)
    return {name: float(np.mean(class_of(scores) == labels)) for name, scores, labels in altered_answers}


def errors_altered(
    root: str, manifest: str, variant: str, rows: str, names: Sequence[str], time_s: float
) -> dict[str, list[float]]:
    """How far the one number that a regressor answers is off, by row and alteration; those tried within `time_s`."""
    altered_answers = _altered_answers(root, manifest, variant, rows, names, time_s)
    return {
        name: np.abs(numbers.reshape(len(labels)).astype(np.float64) - labels).tolist()
        for name, numbers, labels in altered_answers
    }


def _altered_answers(
    root: str, manifest: str, variant: str, rows: str, names: Sequence[str], time_s: float
) -> Iterator[tuple[str, Array, Array]]:
    """Of each alteration its name, the variant's first output, and the labels."""
    bundle, chosen, samples = _opened_order(root, manifest, variant, rows)
    assert samples.labels is not None
    opened = open_variant(bundle, chosen, first_backend(chosen.format), RunOptions())
    end = time.monotonic() + time_s
    for name in names:
        inputs = {key: altered(name, value) for key, value in samples.inputs.items()}
        yield name, _answers(opened, inputs)[opened.outputs[0].name], samples.labels
        if time.monotonic() > end:
            break
    opened.close()


def convert(
    work: str, source: str, target: str, options: Mapping[str, Any], calibration: Mapping[str, str] | None
) -> None:
    """Makes `target` of `source`; `calibration` names bundle, variant and rows to calibrate on, where the work needs them."""
    module, _, function = work.partition(":")
    arguments: dict[str, Any] = dict(options)
    if calibration is not None:
        arguments["rows"] = list(_calls(**calibration))
    getattr(import_module(module), function)(source, target, **arguments)


def _calls(root: str, manifest: str, variant: str, rows: str) -> Iterator[Mapping[str, Array]]:
    """The rows as the variant's own tensors, one call after the other."""
    bundle, chosen, samples = _opened_order(root, manifest, variant, rows)
    opened = open_variant(bundle, chosen, first_backend(chosen.format), RunOptions())
    step = chosen.fixed_batch or 1
    for start in range(0, len(samples) - step + 1, step):
        yield opened.prepare({name: value[start : start + step] for name, value in samples.inputs.items()})
    opened.close()


def _opened_order(root: str, manifest: str, variant: str, rows: str) -> tuple[Bundle, Variant, Samples]:
    parsed = parse_manifest(manifest, "the draft")
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    bundle = Bundle(Path(root), parsed, parsed.name, parsed.version, parsed.variants, digest)
    chosen = next(v for v in bundle.variants if v.name == variant)
    return bundle, chosen, samples_from_npz(Path(rows), parsed.inputs, parsed.outputs)


def _answers(opened: OpenedVariant, inputs: Mapping[str, Array]) -> dict[str, Array]:
    rows = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, rows, CHUNK_ROWS):
        chunk = {name: np.ascontiguousarray(value[start : start + CHUNK_ROWS]) for name, value in inputs.items()}
        parts.append(opened.predict(chunk))
    return {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in opened.outputs}


def _json(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
