"""`edgeward predict`'s job beside a bare `session.run` loop over the same rows, in interleaved rounds.

    python -m benchmarks.batch --rows 100000 --rounds 5 --out benchmarks/results/batch.json

The bare loop runs the very variant and options that were chosen for throughput, on arrays in memory, at the batch size that is
best for it; the job reads a .npz and writes one, with its checkpoints. The bar: at least 90 % of the bare loop's rows a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bar import counted
from benchmarks.environment import now_utc, read_environment
from benchmarks.overhead import BACKEND
from runtime.batch_job.job import BatchJob, run_batch
from runtime.batch_job.predictor import LocalPredictor
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.watch_settings import WatchSettings
from runtime.errors import WrongUseError
from runtime.selection.candidates import SPINNING
from runtime.selection.rows import rows_for
from runtime.selection.settings import Objective, SelectionSettings
from runtime.tensors import Array

SCHEMA_VERSION = 1
BAR = 0.9
Bare = Callable[[dict[str, Array]], Any]
BATCH_SIZES = (1, 8, 16, 32, 64, 128, 256)
# To find the bare loop's best batch size.
SEARCH_S = 0.4


def measure(rows: int, rounds: int, model_name: str) -> dict[str, Any]:
    """Rows a second of both in every round, and the ratio of medians."""
    settings = EngineSettings(
        selection=SelectionSettings(backends=(BACKEND,), objective=Objective.THROUGHPUT), watch=WatchSettings(0, 0)
    )
    with load(model_name, settings) as model, tempfile.TemporaryDirectory() as folder:
        inputs = _inputs(model, rows)
        file = Path(folder) / "in.npz"
        np.savez(file, **inputs)  # type: ignore[arg-type]  # names are the model's own
        bare = bare_session(model)
        batch = _best_batch(bare, inputs, rows)
        job = BatchJob(file, Path(folder) / "out.npz", is_fresh=True)
        samples: list[dict[str, Any]] = []
        for number in counted(range(rounds), "round"):
            # Who is first changes from round to round.
            pair: list[tuple[str, Callable[[], object]]] = [
                ("bare", lambda: _bare_loop(bare, inputs, rows, batch)),
                ("job", lambda: run_batch(job, LocalPredictor(model))),
            ]
            for who, run in pair if number % 2 else reversed(pair):
                started, began = time.perf_counter(), time.process_time()
                run()
                took_s, cpu_s = time.perf_counter() - started, time.process_time() - began
                samples.append(
                    {"round": number, "who": who, "seconds": took_s, "cpu_s": cpu_s, "rows_per_s": rows / took_s}
                )
        rates: dict[str, list[float]] = {
            who: [sample["rows_per_s"] for sample in samples if sample["who"] == who] for who in ("bare", "job")
        }
        rate = {who: median(of) for who, of in rates.items()}
        cpu = {who: median(sample["cpu_s"] for sample in samples if sample["who"] == who) for who in rates}
        by_round = [job_rate / bare_rate for job_rate, bare_rate in zip(rates["job"], rates["bare"], strict=True)]
        return {
            "model": model.name,
            "serving": model.serving,
            "rows": rows,
            "bare_batch": batch,
            "job_batch": LocalPredictor(model).batch_rows,
            "bare_rows_per_s": rate["bare"],
            "job_rows_per_s": rate["job"],
            "ratio": median(by_round),
            "ratio_lowest": min(by_round),
            "ratio_highest": max(by_round),
            # What neighbours on the machine take from the clock they do not take from this.
            "cpu_ratio": cpu["bare"] / cpu["job"],
            "bar": BAR,
            "samples": samples,
        }


def bare_session(model: Model) -> Bare:
    """A session of ONNX Runtime on the variant that `model` runs, with the very same options."""
    import onnxruntime as ort

    candidate = model.candidate
    if candidate.variant.mapping.inputs or candidate.variant.mapping.outputs:
        raise WrongUseError(
            f"variant {candidate.variant.name!r} has tensors of its own, so a bare loop runs something else"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = candidate.options.threads
    options.inter_op_num_threads = 1
    if candidate.options.extra.get(SPINNING) == "0":
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = str(model.bundle.path_of(candidate.variant))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in model.outputs]
    return lambda inputs: session.run(names, inputs)


def _inputs(model: Model, rows: int) -> dict[str, Array]:
    """As many rows as asked for, the bundle's samples over and over."""
    some = rows_for(model.bundle, model.inputs, seed=1).take(min(rows, 256))
    return {name: np.resize(value, (rows, *value.shape[1:])) for name, value in some.items()}


def _bare_loop(bare: Bare, inputs: Mapping[str, Array], rows: int, batch: int) -> int:
    answered = 0
    for first in range(0, rows, batch):
        outputs = bare({name: value[first : first + batch] for name, value in inputs.items()})
        answered += len(outputs[0])
    return answered


def _best_batch(bare: Bare, inputs: Mapping[str, Array], rows: int) -> int:
    rates = {}
    for batch in BATCH_SIZES:
        _bare_loop(bare, inputs, min(rows, batch * 4), batch)
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < SEARCH_S:
            done += _bare_loop(bare, inputs, min(rows, batch * 8), batch)
        rates[batch] = done / (time.perf_counter() - started)
    return max(rates, key=lambda batch: rates[batch])


def main() -> int:
    """Measures, writes and prints; 1 below the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    environment = read_environment()
    result = measure(given.rows, given.rounds, given.model)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        said = {"schema_version": SCHEMA_VERSION, "when": now_utc(), **result, "environment": environment}
        given.out.write_text(json.dumps(said, indent=2) + "\n")
    print(
        f"{result['serving']}: bare loop {result['bare_rows_per_s']:,.0f} rows/s at batch {result['bare_batch']}, "
        f"job {result['job_rows_per_s']:,.0f} rows/s at batch {result['job_batch']}: {result['ratio']:.1%} "
        f"({result['ratio_lowest']:.1%} to {result['ratio_highest']:.1%}); by CPU seconds {result['cpu_ratio']:.1%}; bar {BAR:.0%}"
    )
    return 0 if result["ratio"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
