"""A finished bundle measured again on this machine: does each variant still have the accuracy that its manifest says."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.building.engines import first_backend
from runtime.building.isolated import Limits, WorkFailedError
from runtime.building.workshop import Workshop
from runtime.bundle.bundle import Bundle
from runtime.errors import BackendUnavailableError
from runtime.selection.guard import check_answers

ACCURACY_TOLERANCE: Final = 0.01
"""Kernels differ between machines: int8 without VNNI saturates, fp16 rounds elsewhere. One point
is a judgement, measured on one machine only, where nothing differed; a wrong file or mapping costs tens."""


@dataclass(frozen=True, slots=True)
class AccuracyCheck:
    """One variant, then and now."""

    variant: str
    backend: str | None = None
    accuracy: float | None = None
    agreement: float | None = None
    problem: str | None = None
    """What does not hold; None when it holds or could not be checked."""
    unchecked: str | None = None
    """Why it could not be checked here."""


def check_accuracy(bundle: Bundle, limits: Limits) -> tuple[AccuracyCheck, ...]:
    """Every variant run over the bundle's samples on the first backend here that runs its format."""
    samples = bundle.samples()
    manifest = bundle.manifest
    if samples is None or manifest is None:
        why = "the bundle has no samples" if manifest is not None else "a bare model file has no samples"
        return tuple(AccuracyCheck(variant.name, unchecked=why) for variant in bundle.variants)
    names = [tensor.name for tensor in manifest.outputs if tensor.name in samples.outputs] or [
        tensor.name for tensor in manifest.outputs
    ]
    checks = []
    with tempfile.TemporaryDirectory(prefix="edgeward-check-") as scratch:
        shop = Workshop(Path(scratch), limits)
        rows = shop.lay_out("samples", samples.inputs, samples.labels)
        for variant in bundle.variants:
            try:
                first_backend(variant.format)
                outputs, backend = shop.answer(manifest, variant, rows, root=bundle.root)
            except BackendUnavailableError as error:
                checks.append(AccuracyCheck(variant.name, unchecked=str(error)))
                continue
            except WorkFailedError as error:
                checks.append(AccuracyCheck(variant.name, problem=str(error)))
                continue
            result = check_answers(manifest.task, names, outputs, samples.outputs, samples.labels)
            problem = result.problem
            for what, said, seen in (
                ("accuracy", variant.accuracy, result.accuracy),
                ("agreement", variant.agreement, result.agreement),
            ):
                if problem is None and said is not None and seen is not None and seen < said - ACCURACY_TOLERANCE:
                    problem = (
                        f"its {what} is {seen:.2%} here, the manifest says {said:.2%} "
                        f"(more than {ACCURACY_TOLERANCE:.0%} apart)"
                    )
            checks.append(AccuracyCheck(variant.name, backend, result.accuracy, result.agreement, problem))
    return tuple(checks)
