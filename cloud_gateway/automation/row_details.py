"""What is kept of the rows of a request beside the answer, so that labels say later where a model errs: how sure it was of each,
and in which bins its inputs lay. Never the inputs themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from cloud_gateway.automation.answers import Suggestion
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError
from runtime.monitoring.bundled import bundled_baseline
from runtime.monitoring.reference import Baseline
from runtime.monitoring.row_bins import bins_of_rows
from runtime.tensors import Array

log = logging.getLogger(__name__)

MOST_ROWS: Final = 128
"""Of one request; of a larger one, only answers and labels are kept."""

Inputs = Mapping[str, Array]
BundleOf = Callable[[str, int], Bundle | None]


class RowDetails:
    """Works details out by the baselines of the bundles in service; those of a request are None where there is nothing to say.

    Blocking; threads may share it.
    """

    def __init__(self, bundle_of: BundleOf = lambda name, version: None) -> None:
        self._bundle_of = bundle_of
        self._baselines: dict[tuple[str, str], tuple[str, Baseline | None]] = {}

    def of(self, asked: Sequence[tuple[str, str, Inputs | None, Suggestion | None]]) -> list[dict[str, Any] | None]:
        """Of each request: model, version, inputs where they are kept, and what was said.

        Requests of one shape are looked at together: numpy's cost a call is large beside its cost a row.
        """
        found = [_confidences(suggestion) for _, _, _, suggestion in asked]
        alike: dict[Any, list[int]] = {}
        for at, (model, version, inputs, _) in enumerate(asked):
            if inputs and 0 < _rows(inputs) <= MOST_ROWS:
                shapes = tuple((name, value.shape[1:], value.dtype.str) for name, value in inputs.items())
                alike.setdefault((model, version, shapes), []).append(at)
        for (model, version, _), several in alike.items():
            baseline = self.baseline(model, version)
            if baseline is None:
                continue
            parts = [asked[at][2] or {} for at in several]
            bins = bins_of_rows(baseline, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
            for at, part in zip(several, parts, strict=True):
                mine, bins = bins[: _rows(part)], bins[_rows(part) :]
                if mine:
                    found[at] = {**(found[at] or {}), "baseline": baseline.key, "bins": mine}
        return found

    def baseline(self, model: str, version: str) -> Baseline | None:
        """By which the bins of a version are counted; None where it is not served, or has nothing to count by."""
        bundle = self._bundle_of(model, int(version)) if version.isdecimal() else None
        if bundle is None:
            return None
        digest, known = self._baselines.get((model, version), ("", None))
        if digest != bundle.digest:
            try:
                known = bundled_baseline(bundle)
            except EdgewardError as error:
                log.warning("errors of model %s are not told by its inputs: %s", model, error)
                known = None
            self._baselines[(model, version)] = (bundle.digest, known)
        return known


def _rows(inputs: Inputs) -> int:
    counts = {len(value) if value.ndim else 0 for value in inputs.values()}
    return counts.pop() if len(counts) == 1 else 0


def _confidences(suggestion: Suggestion | None) -> dict[str, Any] | None:
    if suggestion is None or not suggestion.confidences or len(suggestion.confidences) > MOST_ROWS:
        return None
    return {"confidence": [round(one, 4) for one in suggestion.confidences]}
