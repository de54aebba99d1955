"""Another variant in fp32 in the place of a reference that was not tried here, or does not run: who may, and whether it answers
as the bundle says that the reference did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from runtime.backends.opened import OpenedVariant
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Task
from runtime.selection.choice import Choice, Ranked
from runtime.selection.guard import check_answers
from runtime.tensors import Array

STANDING_IN: Final = "fp32"
"""The precision of what may be taken for the reference."""
CALL_ROWS: Final = 32
"""Of a call of the check."""


def standing_in(choice: Choice, serving: Ranked) -> list[Ranked]:
    """Those that answered in their trial as the reference did.

    What serves checks nothing by its own answers, and is among them only where it is alone.
    """
    found = [r for r in choice.ranked if r.candidate.variant.precision == STANDING_IN and r.agreement == 1.0]
    return [r for r in found if r.candidate.pair != serving.candidate.pair] or found


def why_no_stand_in(bundle: Bundle, opened: OpenedVariant) -> str | None:
    """What keeps `opened` from standing in: a row of the bundle's samples that it answers otherwise; None where there is none.

    A trial may have compared few rows. Here it is as many as selection wants compared, or all, so that a check that is under
    way when its model is closed ends soon. The errors are those of running it, and `BundleError` when the samples are damaged.
    """
    # Only who has a stand-in needs them; a load that recalls its choice does without.
    from runtime.selection.bench import MIN_GUARD_ROWS
    from runtime.selection.rows import rows_for

    samples = rows_for(bundle, opened.inputs, seed=0)
    if not samples.outputs or not len(samples):
        return "cannot be compared with it: its answers are not in the bundle"
    parts: list[Mapping[str, Array]] = []
    rows = 0
    for chunk, inputs in samples.chunks(CALL_ROWS):
        parts.append(opened.predict(inputs))
        rows = chunk.stop
        if rows >= MIN_GUARD_ROWS:
            break
    answers = {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}
    known = min(len(value) for value in (*answers.values(), *samples.outputs.values()))
    task = bundle.manifest.task if bundle.manifest is not None else Task.GENERIC
    seen = check_answers(
        task,
        [spec.name for spec in opened.outputs],
        {name: value[:known] for name, value in answers.items()},
        {name: value[:known] for name, value in samples.outputs.items()},
        None,
    )
    if seen.problem is None and seen.agreement == 1.0:
        return None
    return f"does not answer all of the bundle's first {known} samples as it does"
