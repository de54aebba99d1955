"""Evidently's defaults on the same streams, run by the Python of an environment that has it: `PYTHON FILE RUNS [SCENARIO ...]`.

Imports nothing of ours but `streams`, which lies beside it and needs numpy alone. Each run's rows are compared in disjoint
windows of 1,000 with the whole reference; what its `DataDriftPreset` calls drifted of a column is a find.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
WINDOW_ROWS = 1_000


def main(runs: int, names: Sequence[str]) -> None:
    """The scenarios named, or all; one line of JSON each."""
    import numpy as np
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset
    from streams import CHANGE_ROW, CHANGES, NULLS, ROWS, make_run

    warnings.simplefilter("ignore")

    def drifted(reference: Any, current: Any, category: bool) -> dict[str, bool]:
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

    versions = {name: version(name) for name in ("evidently", "pandas", "numpy", "scipy")}
    for scenario in (one for one in (*NULLS, *CHANGES) if not names or one.name in names):
        false_alarms, delays = 0, []
        for seed in range(runs):
            reference, stream = make_run(scenario, seed)
            columns = [f"x{at}" for at in range(scenario.features)]
            # A change concerns the first column alone; the others would cost a tenfold time and say what the nulls say.
            kept = scenario.features if scenario.is_null else 1
            frames = [pd.DataFrame(part[:, :kept], columns=columns[:kept]) for part in (reference, stream)]
            if scenario.is_category:
                for frame in frames:
                    frame["x0"] = np.char.add("v", frame["x0"].to_numpy().astype(int).astype(str))
            is_false, delay = False, None
            for first in range(0, ROWS, WINDOW_ROWS):
                found = drifted(frames[0], frames[1].iloc[first : first + WINDOW_ROWS], scenario.is_category)
                last = first + WINDOW_ROWS
                if any(found.values()):
                    if scenario.is_null or last <= CHANGE_ROW:
                        is_false = True
                        break
                    if found.get("x0"):
                        delay = last - CHANGE_ROW
                        break
            false_alarms += is_false
            delays.append(delay)
        told = {
            "scenario": scenario.name,
            "features": scenario.features,
            "runs": runs,
            "false_alarms": false_alarms,
            "found": sum(delay is not None for delay in delays),
            "delays": delays,
            "versions": versions,
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
