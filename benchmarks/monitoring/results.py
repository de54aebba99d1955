"""The figures of `benchmarks.monitoring` as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

SCHEMA_VERSION = 1
FALSE_ALARM_BAR = 0.05
COST_BAR = 0.03
VALUES_BAR = 200_000
BYTES_BAR = 20_000


def to_markdown(results: Mapping[str, Any]) -> str:
    """The tables, for people; a part that was not measured is not there, or says why."""
    environment = results["environment"]
    lines = [
        "# Monitoring: what it costs and what it finds",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; "
        f"Python {environment['python']}; commit {environment['commit']}; {results['when']}; "
        f"load average before: {environment['load_before'][0]}.",
    ]
    if results.get("cost"):
        lines += _cost(results["cost"])
    if results.get("speed"):
        lines += ["", f"## Counting (bars: {VALUES_BAR:,} values/s, {BYTES_BAR:,} bytes a feature)", ""]
        lines += ["| stream | kept by | values a CPU second | bytes a feature |", "|---|---|---:|---:|"]
        lines += [
            f"| {s['stream']} | {s['kind']} | {s['values_per_cpu_s']:,} | {s['bytes_per_feature']:,} |"
            for s in results["speed"]
        ]
    if results.get("table"):
        lines += _table(results["table"], results.get("evidently"))
    if results.get("images"):
        lines += _images(results["images"])
    if results.get("page"):
        lines += _page(results["page"])
    return "\n".join(lines) + "\n"


def _cost(cost: Mapping[str, Any]) -> list[str]:
    lines = ["", f"## On the serving path (bar: {COST_BAR:.0%} of p50 and of requests a second)", ""]
    lines += [
        f"{cost['rounds']} interleaved rounds of {cost['seconds']:g} s, {cost['connections']} gRPC connections, one digits row a request.",
        "",
        "| figure | off | on | on / off, median of rounds | lowest | highest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, words in (("per_s", "requests/s"), ("p50_ms", "p50, ms")):
        one = cost[name]
        lines.append(
            f"| {words} | {one['off']:.4g} | {one['on']:.4g} | {one['ratio']:.3f} | {one['low']:.3f} | {one['high']:.3f} |"
        )
    return lines


def _table(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]] | str | None) -> list[str]:
    lines = ["", f"## Drift (bar: {FALSE_ALARM_BAR:.0%} of runs with any false alarm)", ""]
    lines += [
        "10,000 rows a run against a reference of 10,000; the first of ten features changes at row 2,000. Ours looks every 100 rows at "
        "default settings. Evidently's defaults (`DataDriftPreset`) see the same rows in windows of 1,000, the smallest delay "
        "they can have; where a change is looked for, they are given that column alone.",
        "",
        "| scenario | runs | false alarms | found | median rows to find | Evidently: runs | false alarms | found | median rows |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    other = {one["scenario"]: one for one in theirs} if isinstance(theirs, list) else {}
    for one in ours:
        cells = [one["scenario"], *_cells(one)]
        cells += _cells(other[one["scenario"]]) if one["scenario"] in other else ["–"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    if isinstance(theirs, str):
        lines += ["", f"Evidently: {theirs}"]
    return lines


def _cells(one: Mapping[str, Any]) -> list[str]:
    delays = [delay for delay in one["delays"] if delay is not None]
    is_null = one["scenario"].startswith("no drift")
    found = "–" if is_null else f"{one['found']} of {one['runs']}"
    return [
        str(one["runs"]),
        str(one["false_alarms"]),
        found,
        f"{median(delays):,.0f}" if delays and not is_null else "–",
    ]


def _images(images: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "",
        "## Digits images (held-out rows, drawn with replacement; the change begins at row 500; looks every 50 rows)",
        "",
    ]
    lines += [
        "| change | share of rows | runs | alarms before | found | median rows to find | by |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for one in images:
        rows = "–" if one["median_rows"] is None else f"{one['median_rows']:,.0f}"
        by = ", ".join(one["first_features"][:3])
        lines.append(
            f"| {one['change']} | {one['share']:.0%} | {one['runs']} | {one['early_alarms']} | {one['found']} | {rows} | {by} |"
        )
    return lines


def _page(page: Mapping[str, Any] | str) -> list[str]:
    lines = ["", "## The page in headless Chromium (80 series, a day of one-second data)", ""]
    if isinstance(page, str):
        return [*lines, page]
    paint, frame = page["paint_ms"], page["frame_p95_ms"]
    return [
        *lines,
        "| figure | measured | bar | |",
        "|---|---:|---:|---|",
        f"| first paint on loopback, median of {len(page['first_paint_ms'])} loads | {paint:.0f} ms | {page['paint_bar_ms']} ms | {_held(paint < page['paint_bar_ms'])} |",
        f"| frames while scrolling over a day, p95 of {len(page['frames_ms'])} | {frame:.1f} ms | {page['frame_bar_ms']} ms | {_held(frame <= page['frame_bar_ms'])} |",
        f"| from the click on 24 h to its charts, {page['day_points']} points each | {page['day_ms']:.0f} ms | – | |",
        f"| recording the day's 86,400 seconds | {page['record_day_s']:.1f} CPU s | – | |",
    ]


def _held(is_held: bool) -> str:
    return "held" if is_held else "MISSED"
