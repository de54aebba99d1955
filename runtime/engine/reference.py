"""The reference variant beside the one that serves: opened when it is first needed, on a slow path of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.backends.base import RunOptions
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Task
from runtime.engine.stand_in import standing_in, why_no_stand_in
from runtime.errors import BackendUnavailableError
from runtime.selection.candidates import CPU, SPINNING, Candidate
from runtime.selection.choice import Choice, Ranked
from runtime.selection.guard import check_answers
from runtime.tensors import Array

MAX_ROWS: Final = 32
"""Of a call that is checked: the first ones, so that a check costs little however large the batch."""


class NoReferenceError(Exception):
    """There is nothing to compare with; the text says why. Internal to the engine."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs and what was answered to them; copies."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


class Reference:
    """The bundle's first variant on one thread, or another in fp32 that stands in for it. One thread at a time.

    What stands in is compared with the bundle's samples when it is opened, and believed where it answers as the reference did.
    """

    def __init__(self, bundle: Bundle, choice: Choice, serving: Ranked, cap_mb: float | None) -> None:
        """For the answers of `serving`, one of `choice`.

        `NoReferenceError` when it may not run here, is what serves, or beside that would take more than `cap_mb` (None: no cap).
        """
        name = bundle.variants[0].name
        found = [ranked for ranked in choice.ranked if ranked.candidate.variant.name == name]
        self.is_standing_in = not found
        """Whether this is another variant than the reference."""
        found = found or standing_in(choice, serving)
        if not found:
            raise NoReferenceError(
                f"no shadow checks: the reference {name} is not among what may run here{_why_not(name, choice)}, and no other "
                "variant in fp32 answers as it does"
            )
        # On the processor where it runs there, which is what the bundle's own answers were made on.
        chosen = min(found, key=lambda r: (r.candidate.backend.device != CPU, r.candidate.options.threads))
        self.words = f"the reference {name}"
        """What answers here, for sentences."""
        if self.is_standing_in:
            self.words = f"{chosen.candidate.variant.name}, which stands in for the reference {name},"
        if chosen.candidate.pair == serving.candidate.pair:
            raise NoReferenceError(f"no shadow checks: {self.words} itself answers")
        needed_mb = (chosen.memory_mb or 0.0) + (serving.memory_mb or 0.0)
        if cap_mb is not None and needed_mb > cap_mb:
            raise NoReferenceError(
                f"no shadow checks: {self.words} beside {serving.candidate.variant.name} would take "
                f"{needed_mb:.1f} MB, the cap is {cap_mb:.1f} MB"
            )
        extra = {key: value for key, value in chosen.candidate.options.extra.items() if key != SPINNING}
        self.candidate = Candidate(chosen.candidate.variant, chosen.candidate.backend, RunOptions(1, extra))
        self._bundle = bundle
        self._opened: OpenedVariant | None = None

    def sample(self, served: OpenedVariant, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Sample | None:
        """Copies of a call's first rows; None where its inputs are no numbers, of which every variant makes what it will."""
        if any(value.dtype.kind == "f" and not np.isfinite(value).all() for value in inputs.values()):
            return None
        batched = {spec.name for spec in served.inputs if spec.is_batched}
        if batched and all(spec.is_batched for spec in served.outputs):
            if not len(inputs[next(iter(batched))]):
                return None
            return Sample(
                {name: value[:MAX_ROWS].copy() if name in batched else value.copy() for name, value in inputs.items()},
                {name: value[:MAX_ROWS].copy() for name, value in outputs.items()},
            )
        return Sample({k: v.copy() for k, v in inputs.items()}, {k: v.copy() for k, v in outputs.items()})

    def share_disagreeing(self, sample: Sample) -> float | None:
        """The share of rows whose answer is not the reference's, by the guard's rule; None where nothing can be compared.

        The errors are those of opening and running the reference; `NoReferenceError` when what stands in for it is gone, or does
        not answer as it does.
        """
        try:
            if self._opened is None:
                self._opened = self._open()
            expected = self._opened.predict(sample.inputs)
        except BackendUnavailableError as error:
            if not self.is_standing_in:
                raise
            raise NoReferenceError(f"no shadow checks: {self.words} is gone ({error})") from error
        task = self._bundle.manifest.task if self._bundle.manifest is not None else Task.GENERIC
        names = [spec.name for spec in self._opened.outputs]
        seen = check_answers(task, names, sample.outputs, expected, None)
        if seen.problem is not None:
            return 1.0
        return None if seen.agreement is None else 1 - seen.agreement

    def _open(self) -> OpenedVariant:
        candidate = self.candidate
        opened = open_variant(self._bundle, candidate.variant, candidate.backend, candidate.options)
        if not self.is_standing_in:
            return opened
        try:
            why_not = why_no_stand_in(self._bundle, opened)
            if why_not is not None:
                raise NoReferenceError(f"no shadow checks: {self.words} {why_not}")
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Gives its memory back."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _why_not(name: str, choice: Choice) -> str:
    """The first reason that selection had against the variant `name`, where it had one."""
    reasons = [f" ({r.backend}: {r.reason})" for r in choice.rejected if r.variant == name and not r.is_misfit]
    return reasons[0] if reasons else ""
