"""Baseline: rows a second of `session.run` alone, on one core, at its best batch size; no server, no queue, no copy.

`python -m benchmarks.serving.raw_session MODEL SECONDS [BATCH]` prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import psutil

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


def measure(session: Any, batch: int, seconds: float) -> tuple[float, float]:
    """Rows answered in a second, in batches of `batch`, and CPU seconds for 1,000 of them."""
    feed = {node.name: np.zeros((batch, *node.shape[1:]), np.float32) for node in session.get_inputs()}
    session.run(None, feed)
    runs, started, cpu_s = 0, time.perf_counter(), time.process_time()
    while (took_s := time.perf_counter() - started) < seconds:
        session.run(None, feed)
        runs += 1
    rows = runs * batch
    return rows / took_s, (time.process_time() - cpu_s) / rows * 1000


def main(model: str, seconds: float, batch: int | None) -> None:
    """Tries every batch size for a share of the time, then measures the best one for the rest."""
    import onnxruntime

    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity(process.cpu_affinity()[-1:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    if batch is None:
        # By CPU time: who else wants the core is not the size's doing.
        tried = {size: measure(session, size, seconds / len(BATCHES))[1] for size in BATCHES}
        batch = min(tried, key=lambda size: tried[size])
    rows_per_s, cpu_s_per_1000 = measure(session, batch, seconds)
    print(json.dumps({"batch": batch, "rows_per_s": rows_per_s, "cpu_s_per_1000": cpu_s_per_1000}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
