"""The figures of `benchmarks.monitoring` as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.monitoring.cost_ratios import verdict
from benchmarks.significance import Interval
from runtime.confidence.bound import upper_bound

SCHEMA_VERSION = 4
FALSE_ALARM_BAR = 0.05
COST_BAR = 0.03
VALUES_BAR = 200_000
BYTES_BAR = 20_000
TAIL = 0.025
FIGURE_WORDS = {
    "cpu_ms_per_1000": "CPU ms of the server for 1,000 requests",
    "per_s": "requests/s",
    "p50_ms": "p50, ms",
}


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
        lines += _table(results["table"], results.get("evidently", []), results.get("evidently_why_not_all"))
    if results.get("images"):
        lines += _images(results["images"])
    if results.get("page"):
        lines += _page(results["page"])
    return "\n".join(lines) + "\n"


def _cost(cost: Mapping[str, Any] | str) -> list[str]:
    lines = ["", f"## On the serving path (bar: {COST_BAR:.0%} of p50 and of requests a second)", ""]
    if isinstance(cost, str):
        return [*lines, cost]
    lines += [
        f"One server, {cost['rounds']} interleaved rounds of {cost['seconds']:g} s with statistics on, off and off once more (`again`: what "
        f"this machine cannot tell from nothing), {cost['connections']} gRPC connections, one digits row a request. Ratios with their 95 % "
        "interval over rounds; p50 is the geometric mean of the turns', so its ratio that of the pairs. Processor time is that of the server alone, and tells most where the load runs on the same cores; what the "
        "recorder's thread used is charged to the turns that are on, to their requests a second as if it had stopped the server. "
        "A bar is held or missed where the whole interval says so.",
        "",
        "| figure | off | on | on / off | again / off | bar, on / off |",
        "|---|---:|---:|---:|---:|---|",
    ]
    ratios = {(one["arm"], one["to"]): one for one in cost["ratios"]}
    for name, words in FIGURE_WORDS.items():
        found = {pair: _interval(one[name]) for pair, one in ratios.items()}
        cells = [f"{found[pair]}" for pair in (("on", "off"), ("again", "off"))]
        off, on = (cost["arms"][arm][name] for arm in ("off", "on"))
        lines.append(
            f"| {words} | {off:.4g} | {on:.4g} | {' | '.join(cells)} | {verdict(name, found['on', 'off'], COST_BAR)} |"
        )
    return lines


def _interval(found: Mapping[str, float]) -> Interval:
    return Interval(found["ratio"], found["low"], found["high"])


def _table(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], why: str | None) -> list[str]:
    lines = ["", f"## Drift (bar: {FALSE_ALARM_BAR:.0%} of runs with any false alarm)", ""]
    lines += [
        "10,000 rows a run against a reference of 10,000; the first of ten features changes at row 2,000. Ours looks every 100 rows at "
        "default settings. Evidently's defaults (`DataDriftPreset`) see the same rows in windows of 1,000, the smallest delay "
        "they can have; where a change is looked for, they are given that column alone. In brackets the 95 % interval of the share of runs with a false alarm (Clopper-Pearson).",
        "",
        "| scenario | runs | false alarms | found | median rows to find | Evidently: runs | false alarms | found | median rows |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    other = {one["scenario"]: one for one in theirs}
    for one in ours:
        cells = [one["scenario"], *_cells(one)]
        cells += _cells(other[one["scenario"]]) if one["scenario"] in other else ["–"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    if other:
        versions = next(iter(other.values()))["versions"]
        lines += ["", f"Evidently's environment: {', '.join(f'{name} {number}' for name, number in versions.items())}."]
    if why is not None:
        lines += ["", f"Evidently: {why}"]
    return lines


def _cells(one: Mapping[str, Any]) -> list[str]:
    delays = [delay for delay in one["delays"] if delay is not None]
    is_null = one["scenario"].startswith("no drift")
    found = "–" if is_null else f"{one['found']} of {one['runs']}"
    runs, alarms = one["runs"], one["false_alarms"]
    low, high = 1 - upper_bound(runs - alarms, runs, TAIL), upper_bound(alarms, runs, TAIL)
    return [
        str(runs),
        f"{alarms} ({low:.1%} to {high:.1%})",
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
