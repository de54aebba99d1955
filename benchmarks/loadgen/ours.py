"""The same scenario without the package: our own generator on LoadGen's schedule, judged by LoadGen's rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.arrivals import Arrivals, Pattern
from benchmarks.loadgen.plan import OUR_WORDING, Order
from benchmarks.loadgen.result import Result, Summary
from benchmarks.loadgen.rules import (
    SINGLE_STREAM_SHARE,
    TAIL_SHARE,
    early_stopping_estimate,
    is_server_run_kept,
    schedule,
)
from benchmarks.measure import Progress, measure
from benchmarks.row import backend_used, model_sha256
from benchmarks.samples import Recording
from benchmarks.scenarios import Kind, Scenario, Wishes, plan
from benchmarks.statistics import order_index

# The schedule in seconds, a line a query; to the nanosecond.
SCHEDULE_FILE = "schedule.txt"
SAMPLES_FILE = "samples.npz"
# Not the name of LoadGen's: nobody should take it for that.
SUMMARY_FILE = "summary.txt"


def run_ours(order: Order, environment: Mapping[str, Any], progress: Progress | None = None) -> Result:
    """Measures the order, keeps the raw samples in its folder, and judges them; after Ctrl-C what there is."""
    recording = measure(order.setting, scenario_of(order), environment, progress, order.access)
    recording.save(order.folder / SAMPLES_FILE)
    summary = judge(recording, order)
    (order.folder / SUMMARY_FILE).write_text(f"{OUR_WORDING}\n{summary.text}\n", encoding="utf-8")
    return Result(
        order.setting,
        order.kind,
        summary,
        backend_used(recording.header),
        model_sha256(recording.header),
        dict(recording.summary().errors),
        None,
        "the accuracy mode is LoadGen's; install it: pip install 'edgeward[loadgen]'",
        order.folder,
        OUR_WORDING,
        was_stopped=recording.header["was_stopped"],
    )


def scenario_of(order: Order) -> Scenario:
    """Our scenario of the same name, its arrivals LoadGen's; the schedule is written to the order's folder."""
    rules, arrivals, duration_s = order.rules, None, order.rules.duration_s
    if order.kind.shape.is_open_loop:
        due_ns = schedule(rules.qps, rules.duration_s, rules.min_queries)
        file = Path(order.folder) / SCHEDULE_FILE
        file.write_text("".join(f"{due // 10**9}.{due % 10**9:09d}\n" for due in due_ns.tolist()), encoding="ascii")
        arrivals, duration_s = Arrivals(Pattern.TRACE, trace=file), (int(due_ns[-1]) + 1) / 1e9
    rows = None if rules.rows(order.kind) == 1 else rules.rows(order.kind)
    wishes = Wishes(duration_s, None, rows, rules.workers(order.kind), arrivals, timeout_s=rules.timeout_s)
    return plan(order.kind.value, wishes)


def judge(recording: Recording, order: Order) -> Summary:
    """VALID or INVALID by the rules, and the scenario's figure as LoadGen names it."""
    rules, samples = order.rules, recording.samples
    latency_ms = samples.latency_ms[recording.is_ok]
    n, lines = len(latency_ms), [f"Scenario : {order.kind.shape.loadgen_name} (Edgeward's own generator)"]
    met = {"Min queries": n >= rules.min_queries or order.kind is Kind.OFFLINE}
    met["Min duration"] = samples.duration_s >= 0.98 * rules.duration_s
    met["Generator"] = recording.is_valid
    if order.kind is Kind.OFFLINE:
        name, value = "Samples per second", recording.summary().rows_per_s
    elif order.kind is Kind.SERVER:
        name, value = "Completed samples per second", recording.summary().achieved_qps
        met["Early stopping"] = is_server_run_kept(latency_ms, rules.bound_ms)
    else:
        share = SINGLE_STREAM_SHARE if order.kind is Kind.SINGLE else TAIL_SHARE
        estimate = early_stopping_estimate(latency_ms, share)
        name = f"{share * 100:.1f}th percentile latency (ns)"
        latency_ms.sort()
        value = float(latency_ms[order_index(n, share)]) * 1e6 if n else 0.0
        met["Early stopping"] = estimate.ms is not None
        if estimate.ms is not None:
            lines.append(
                f"Early stopping {share * 100:.1f}th percentile estimate: {estimate.ms * 1e6:.0f} "
                f"({estimate.discarded} highest latency queries discarded)"
            )
    verdict = "VALID" if all(met.values()) else "INVALID"
    lines += [
        f"{name} : {value:.6g}",
        f"Result is : {verdict}",
        *(f"  {k} satisfied : {'Yes' if v else 'NO'}" for k, v in met.items()),
    ]
    return Summary(verdict, name, value, "\n".join(lines))
