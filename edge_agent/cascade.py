"""When a local answer is sure enough to stand: a model's fitted cascade, as requests need it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runtime.errors import WrongUseError
from runtime.tensors import Array
from runtime.wire.values import InferenceResponse, RequestedOutput

if TYPE_CHECKING:
    from runtime.engine.model import Model


@dataclass(frozen=True, slots=True)
class Cascade:
    """The cascade of one model; pure."""

    output: str
    """The output [row, class] that tells the confidence."""
    temperature: float
    threshold: float
    """Infinite where no confidence is enough."""
    why: str
    serving: str = ""
    """What it was fitted on, in the words of replies; empty: whatever answers."""

    def is_fitted_on(self, answer: InferenceResponse) -> bool:
        """Whether the threshold is that of what answered: between the opening and the run another may have taken over."""
        return not self.serving or answer.parameters.get("backend", self.serving) == self.serving

    def is_told_by(self, outputs: Sequence[RequestedOutput]) -> bool:
        """Whether the local answer will hold the scores themselves; the classification extension gives texts instead."""
        return not any(output.name == self.output and output.parameters.get("classification") for output in outputs)

    def confidence(self, outputs: Mapping[str, Array]) -> float | None:
        """The calibrated confidence of the least sure row; None where the scores are not there."""
        from runtime.confidence.temperature import as_logits, confidences

        scores = outputs.get(self.output)
        if scores is None or scores.ndim == 0 or not scores.size:
            return None
        return float(confidences(as_logits(scores), self.temperature).min())

    def without_extra(self, answer: InferenceResponse, asked: Sequence[RequestedOutput]) -> InferenceResponse:
        """The answer without scores that only the cascade had asked for."""
        if not asked or any(output.name == self.output for output in asked):
            return answer
        return replace(answer, outputs={name: value for name, value in answer.outputs.items() if name != self.output})


def fit(model: Model, risk: float) -> Cascade:
    """The cascade of a loaded model, from its bundle's labelled samples and what it answers to them here.

    `WrongUseError` where the bundle cannot tell: no classification, no labels. Takes as long as the samples take to run.
    """
    from runtime.confidence.scores import labelled_scores
    from runtime.confidence.selective import fit_cascade

    serving = model.serving
    told = labelled_scores(model.bundle, model.predict)
    if isinstance(told, str):
        raise WrongUseError(f"model {model.name!r} has no cascade: {told}")
    output, scores, labels = told
    found = fit_cascade(scores, labels, risk)
    threshold = math.inf if found.threshold is None else found.threshold
    return Cascade(output, found.temperature, threshold, found.why, serving)
