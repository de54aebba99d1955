"""What one scenario gave: LoadGen's verdict as it wrote it, its figure, and the accuracy from its log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scenarios import Kind
from benchmarks.settings import Setting
from runtime.errors import ExecutionError
from runtime.tensors import Array

SUMMARY_FILE = "mlperf_log_summary.txt"
ACCURACY_FILE = "mlperf_log_accuracy.json"
_VERDICT = re.compile(r"^Result is : (VALID|INVALID)\s*$", re.MULTILINE)
_FIGURE = re.compile(r"^Mode\s*: .*\n(?P<name>[^:\n]+?)\s*: (?P<value>[0-9.eE+]+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Summary:
    """`mlperf_log_summary.txt`, taken apart as far as it is needed."""

    verdict: str
    """VALID or INVALID, as written there."""
    name: str
    """Of the scenario's figure, as written there."""
    value: float
    text: str
    """The whole file up to its additional statistics."""


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario on one target."""

    setting: Setting
    kind: Kind
    summary: Summary
    backend: str
    model_sha256: str | None
    """Of the variant in use; None where the server does not tell it."""
    errors: Mapping[str, int]
    """Requests that failed, by code. LoadGen knows no failures: it counts them as answers."""
    accuracy: float | None
    """Share of the bundle's labelled samples that were answered right; None where it was not asked, or see `no_accuracy`."""
    no_accuracy: str | None
    folder: Path | None
    wording: str
    was_stopped: bool = False
    """By Ctrl-C, so that it is shorter than was asked for."""

    @property
    def is_believable(self) -> bool:
        """Valid, whole, and every request was really answered."""
        return self.summary.verdict == "VALID" and not self.was_stopped and not self.errors

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that `json` writes."""
        return {
            "setting": self.setting.to_dict(),
            "scenario": self.kind.shape.loadgen_name,
            "verdict": self.summary.verdict,
            self.summary.name: self.summary.value,
            "backend": self.backend,
            "model_sha256": self.model_sha256,
            "errors": dict(self.errors),
            "accuracy": self.accuracy,
            "no_accuracy": self.no_accuracy,
            "wording": self.wording,
            "was_stopped": self.was_stopped,
            "logs": None if self.folder is None else str(self.folder),
        }


def read_summary(folder: Path) -> Summary:
    """From the file that LoadGen wrote; `ExecutionError` when it wrote none."""
    file = folder / SUMMARY_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    verdict, figure = _VERDICT.search(text), _FIGURE.search(text)
    if verdict is None or figure is None:
        raise ExecutionError(f"LoadGen left no result in {file}: {text.strip()[-200:] or 'it is absent or empty'}")
    head = text.partition("\n================================================\nAdditional Stats")[0]
    return Summary(verdict[1], figure["name"].strip(), float(figure["value"]), head.strip())


def accuracy_in(folder: Path, labels: Array) -> float:
    """Share of right answers in LoadGen's accuracy log: the class of each sample, as four bytes in hexadecimal.

    A sample that LoadGen padded a query with is counted once. `ExecutionError` when it left no log, or one of other samples.
    """
    file = folder / ACCURACY_FILE
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExecutionError(f"LoadGen's accuracy log {file} cannot be read: {error}") from error
    said = {int(e["qsl_idx"]): int(np.frombuffer(bytes.fromhex(e["data"]), np.int32)[0]) for e in entries}
    if sorted(said) != list(range(len(labels))):
        raise ExecutionError(f"LoadGen's accuracy log {folder} has {len(said)} of {len(labels)} samples")
    return float(np.mean([said[number] == int(label) for number, label in enumerate(labels)]))
