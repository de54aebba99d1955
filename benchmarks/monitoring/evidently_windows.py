"""Evidently's defaults on the same streams, run by the Python of an environment that has it: `PYTHON FILE RUNS [SCENARIO ...]`.

Imports nothing of ours but `streams`, which lies beside it and needs numpy alone. Each run's rows are compared in disjoint
windows of 1,000 with the whole reference; what its `DataDriftPreset` calls drifted of a column is a find. A run is told as soon
as it ends, so one that takes minutes is not lost with those that follow.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
if TYPE_CHECKING:
    from benchmarks.monitoring.streams import Change

WINDOW_ROWS = 1_000


def main(runs: int, names: Sequence[str]) -> None:
    """The scenarios named, or all; one line of JSON a run."""
    from streams import CHANGES, NULLS

    warnings.simplefilter("ignore")
    versions = {name: version(name) for name in ("evidently", "pandas", "numpy", "scipy")}
    for change in (one for one in (*NULLS, *CHANGES) if not names or one.name in names):
        for seed in range(runs):
            started = time.process_time()
            is_false, delay = run_once(change, seed)
            told = {
                "scenario": change.name,
                "features": change.features,
                "seed": seed,
                "is_false_alarm": is_false,
                "delay": delay,
                "cpu_s": round(time.process_time() - started, 1),
                "versions": versions,
            }
            print(json.dumps(told), flush=True)


def run_once(change: Change, seed: int) -> tuple[bool, int | None]:
    """Whether it called something drifted that was not, and the rows from the change to the end of the window that showed it."""
    import numpy as np
    import pandas as pd
    from streams import CHANGE_ROW, ROWS, make_run

    reference, stream = make_run(change, seed)
    columns = [f"x{at}" for at in range(change.features)]
    # A change concerns the first column alone; the others would cost a tenfold time and say what the nulls say.
    kept = change.features if change.is_null else 1
    frames = [pd.DataFrame(part[:, :kept], columns=columns[:kept]) for part in (reference, stream)]
    if change.is_category:
        for frame in frames:
            frame["x0"] = np.char.add("v", frame["x0"].to_numpy().astype(int).astype(str))
    for first in range(0, ROWS, WINDOW_ROWS):
        found = _drifted(frames[0], frames[1].iloc[first : first + WINDOW_ROWS], change.is_category)
        last = first + WINDOW_ROWS
        if any(found.values()):
            if change.is_null or last <= CHANGE_ROW:
                return True, None
            if found.get("x0"):
                return False, last - CHANGE_ROW
    return False, None


def _drifted(reference: Any, current: Any, category: bool) -> dict[str, bool]:
    """Of every column whether the preset calls it drifted."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in reference.columns if not (category and name == "x0")]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=["x0"] if category else [])
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    told = Report([DataDriftPreset()]).run(*datasets).dict()
    found = {}
    for metric in told["metrics"]:
        settings = metric.get("config", {})
        if "column" in settings:
            value, threshold = float(metric["value"]), float(settings["threshold"])
            is_p = "p_value" in str(settings.get("method", "")).lower().replace("-", "_").replace(" ", "_")
            found[settings["column"]] = value < threshold if is_p else value >= threshold
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
