"""One model version on one variant, as the recorder of statistics watches it: baseline, monitor, and the window that is open."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from runtime.engine.model import Model
from runtime.monitoring.bundled import features_of_bundle
from runtime.monitoring.decision import DriftTest
from runtime.monitoring.monitor import Learner, Monitor, Window
from runtime.monitoring.reference import Baseline
from runtime.monitoring.summary import Summary
from runtime.monitoring.verdict import Verdict
from runtime.monitoring.window_numbers import WindowNumbers, window_numbers
from runtime.serving.observing.sample_reference import sample_reference
from runtime.tensors import Array

log = logging.getLogger(__name__)

ESTIMATE_ROWS: Final = 1000
"""Newest rows that the estimate without labels is of: the noise of so many is a per cent."""


class WatchedStatistics:
    """Made and updated on the recorder's thread."""

    def __init__(self, model: Model, *, private_untold: int = 0) -> None:
        """`private_untold`: of what answered for this model before."""
        self.began = 0.0
        """When the first rows of the open window were counted."""
        self._window: Summary | None = None
        """Of the rows that others may count too; None while there is no baseline."""
        self._private: Summary | None = None
        """Of those that they may not; None: there were none."""
        self._private_rows = 0
        """Ever, in windows that were closed."""
        self._private_untold = private_untold
        """In closed windows, how many came since others were last told of any row."""
        self._shared_test: DriftTest | None = None
        """Of the rows that others may count alone: what drifts in the rest is not theirs to know. None: there is no rest."""
        self._name, self._version, self._serving = model.name, model.version, model.serving
        self._learner: Learner | None = None
        self._monitor: Monitor | None = None
        reference = sample_reference(model)
        self._accuracy = reference.accuracy
        self.numbers: WindowNumbers | None = None
        """Of the last closed window."""
        baseline = reference.baseline
        if baseline is None:
            features = features_of_bundle(model.bundle.manifest, model.inputs, model.outputs)
            self._learner = Learner(model.name, model.version, features)
        else:
            self._begin(baseline)

    @property
    def open_rows(self) -> int:
        """Rows in the open window."""
        return sum(part.rows for part in (self._window, self._private) if part is not None)

    @property
    def private_untold(self) -> int:
        """Rows that others may not count and were told no number of, those of the open window too."""
        return self._private_untold + (0 if self._private is None else self._private.rows)

    def update(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, is_private: bool) -> None:
        """Takes a block of rows."""
        if self._window is not None:
            if is_private and self._private is None:
                self._private = Summary(self._window.baseline)
            window = self._private if is_private and self._private is not None else self._window
            window.update(inputs, outputs)
        elif self._learner is not None:
            learnt = self._learner.update(inputs, outputs)
            if learnt is not None:
                self._learner = None
                self._begin(learnt)

    def close(self, ended: float) -> Window | None:
        """Ends the open window; the next begins with its first rows. What of it others may count, None where that is nothing.

        They count by the bundle's baseline, never by one of the first rows seen here.
        """
        assert self._window is not None, "only an open window is closed"
        assert self._monitor is not None, "a window has a monitor"
        baseline, shared = self._monitor.baseline, Window(self._window, self.began, ended)
        whole = shared
        if self._private is not None:
            whole = Window(Summary(baseline), self.began, ended)
            whole.summary.merge(self._window)
            whole.summary.merge(self._private)
            self._private_rows += self._private.rows
            self._private_untold += self._private.rows
            if self._shared_test is None:
                self._shared_test = self._monitor.test_so_far()
        for verdict in self._monitor.add(whole):
            log.warning("model %s version %d drifts: %s", self._name, self._version, verdict)
        self.numbers = window_numbers(whole.summary, self._monitor.verdicts)
        self._window, self._private = Summary(baseline), None
        if not shared.summary.rows or baseline.source != "bundle":
            return None
        drifting: Collection[str] = self._monitor.verdicts
        if self._shared_test is not None:
            self._shared_test.look(shared.summary, shared.began, shared.ended)
            drifting = self._shared_test.active
        untold, self._private_untold = self._private_untold, 0
        return replace(shared, drifting=tuple(drifting), private_rows=untold)

    @property
    def model_version(self) -> tuple[str, int]:
        """Which it is."""
        return self._name, self._version

    def verdicts(self) -> tuple[Verdict, ...] | None:
        """What drifts now; None before the first look."""
        monitor = self._monitor
        return None if monitor is None or not monitor.looks else tuple(monitor.verdicts.values())

    def document(self) -> dict[str, Any]:
        """As JSON."""
        told = {"model": self._name, "version": self._version, "backend": self._serving}
        if self._monitor is not None:
            estimate = None if self._accuracy is None else self._accuracy.estimate(self._monitor.newest(ESTIMATE_ROWS))
            known: dict[str, Any] = {"open_rows": self.open_rows, "learning": None, "estimate": estimate}
            known["private_rows"] = self._private_rows
            if self._accuracy is not None:
                known["sample_accuracy"] = round(self._accuracy.right / self._accuracy.rows, 5)
            return {**told, **self._monitor.document(), **known}
        learnt = 0 if self._learner is None else self._learner.rows
        return {**told, "rows": 0, "verdicts": [], "is_drifting": False, "learning": {"rows": learnt}}

    def _begin(self, baseline: Baseline) -> None:
        self._monitor, self._window = Monitor(baseline), Summary(baseline)
