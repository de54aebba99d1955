"""A results folder as one self-contained HTML page and as Markdown for a README. Figures come from the raw samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.breakdown import PARTS
from benchmarks.charts import KNEE_FACTOR, Curve, Series, knee_of, rates, spectrum, timeline
from benchmarks.columns import COST, DIGEST, LATENCY, NOT_TOLD, RATES, Column, known, meaning, who, who_again
from benchmarks.notes import notes_of
from benchmarks.row import UNKNOWN, Row, row_of
from benchmarks.samples import Recording
from benchmarks.scenarios import Scenario
from benchmarks.settings import TargetName
from benchmarks.statistics import percentile_name
from benchmarks.svg import STYLE, bars, stacks

# Browsers draw a page with so many numbers in it without a pause.
MAX_EMBEDDED = 200_000
MAX_SERVER_SECTIONS = 3
# The furthest percentile that tells a curve is drawn.
_CURVE_SHARES = (0.99, 0.9, 0.5)
_STYLE = """
:root { color-scheme: light dark; --ink: #111; --paper: #fff; --grid: #ccc; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #14171a; --grid: #444b52; } }
@media print { :root { color-scheme: light; } }
* { box-sizing: border-box; }
body { font-family: sans-serif; line-height: 1.45; max-width: 72rem; margin: 0 auto; padding: 0 1rem 3rem; }
body { color: var(--ink); background: var(--paper); overflow-wrap: anywhere; } h1 { font-size: 1.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { border-bottom: 1px solid var(--grid); padding: 0.25rem 0.6rem; vertical-align: top; }
th, td { text-align: right; white-space: nowrap; }
.facts td, .facts th { text-align: left; white-space: normal; vertical-align: top; overflow-wrap: anywhere; }
.facts th { min-width: 7rem; overflow-wrap: normal; } td.words, th.words { text-align: left; vertical-align: top; }
td.words, th.words { white-space: normal; min-width: 8rem; max-width: 16rem; }
@media (min-width: 50rem) { tr > .words:first-child { min-width: 18rem; max-width: 28rem; } }
tr > .words:first-child { position: sticky; left: 0; background: var(--paper); }
.scroll { margin: 1rem 0; }
.legend { list-style: none; padding: 0; font-size: 0.9rem; } .legend svg { vertical-align: middle; }
.invalid { font-weight: bold; text-decoration: underline; }
"""


def to_markdown(recordings: Sequence[Recording], slo_ms: float | None = None, failed: Sequence[str] = ()) -> str:
    """The tables, their notes, what could not be measured (a sentence each in `failed`), and where it was measured."""
    rows = [row_of(recording, slo_ms) for recording in recordings]
    lines = [line for columns in _tables(rows) for line in (*_markdown_table(columns, rows), "")]
    lines += [*(f"- {note}" for note in [*map(_not_measured, failed), *notes_of(rows)]), ""]
    told = "; ".join(f"{name}: {value}" for name, value in facts_of(recordings))
    return "\n".join([*lines, f"{_said(rows, slo_ms)} {told}.", ""])


def to_html(recordings: Sequence[Recording], slo_ms: float | None = None, failed: Sequence[str] = ()) -> str:
    """One page without a reference to any other file: tables, charts, environment, and the samples as JSON."""
    rows = [row_of(recording, slo_ms) for recording in recordings]
    measured = list(zip(recordings, rows, strict=True))
    curves = _html_rates(measured, slo_ms)
    title = f"Benchmark: {', '.join(sorted({row.model for row in rows}))}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_said(rows, slo_ms))}</p>",
        *(f'<div class="scroll" tabindex="0">{_html_table(columns, rows)}</div>' for columns in _tables(rows)),
        *(f"<p>{escape(note)}</p>" for note in [*map(_not_measured, failed), *notes_of(rows)]),
        _html_breakdown(rows),
        curves,
        *(_html_charts(name, measured) for name in _sections(measured, has_curves=bool(curves))),
        "<h2>Measured on</h2>",
        _html_facts(facts_of(recordings)),
        f'<script type="application/json" id="recordings">{_embedded(recordings)}</script>',
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def facts_of(recordings: Sequence[Recording]) -> list[tuple[str, str]]:
    """What is to be known of every recording: once where all agree, with the targets or measurements that differ where not."""
    said: dict[str, list[tuple[str, str, str]]] = {}
    for recording in recordings:
        header = recording.header
        for name, value in _facts(header):
            target = TargetName.parse(header["setting"]["target"]).label
            said.setdefault(name, []).append((value, target, header["scenario_text"]))
    starts = sorted(recording.header["started"] for recording in recordings)
    span = ("started", starts[0] if starts[0] == starts[-1] else f"{starts[0]} to {starts[-1]}")
    return [*((name, _where(found)) for name, found in said.items()), span]


def _where(found: Sequence[tuple[str, str, str]]) -> str:
    """The values; where there are several, each with its targets, or with its scenarios too where they matter."""
    is_of_target = len({(value, target) for value, target, _ in found}) == len({target for _, target, _ in found})
    places: dict[str, dict[str, None]] = {}
    for value, target, scenario in found:
        places.setdefault(value, {})[target if is_of_target else f"{target} {scenario}"] = None
    return "; ".join(value if len(places) == 1 else f"{value} ({', '.join(at)})" for value, at in places.items())


def _tables(rows: Sequence[Row]) -> list[list[Column]]:
    """The columns of each table: how fast, and what it took."""
    return [[who(rows), *known([*LATENCY, *RATES], rows)], [who_again(rows), *known(COST, rows), DIGEST]]


def _not_measured(failed: str) -> str:
    return f"Not measured: {failed}"


def _said(rows: Sequence[Row], slo_ms: float | None) -> str:
    """What the figures are, before them."""
    promise = "" if slo_ms is None else f"Goodput counts what was answered within {slo_ms:g} ms. "
    text = meaning(rows)
    return f"{promise}{text[0].upper()}{text[1:]}."


def _markdown_table(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"

    rule = "".join("---|" if column.is_words else "---:|" for column in columns)
    head = line([column.name for column in columns])
    return [head, f"|{rule}", *(line([column.cell(row) for column in columns]) for row in rows)]


def _html_breakdown(rows: Sequence[Row]) -> str:
    """Where the time went, of every measurement whose server tells."""
    known = [
        (
            f"{row.target}, {row.scenario}, {row.backend}",
            [float(value or 0) for value in row.breakdown.to_dict().values()],
        )
        for row in rows
        if row.breakdown is not None and row.breakdown.wire is not None
    ]
    if not known:
        return ""
    drawn = stacks(known, PARTS, "ms")
    text = "Shares of the mean latency of the answered requests; the mean stands behind each bar."
    return f"<h2>Where the time went</h2><p>{text}</p>{drawn}"


def _html_rates(measured: Sequence[tuple[Recording, Row]], slo_ms: float | None) -> str:
    """Latency against the rate, where a target was measured at more than one."""
    for share in _CURVE_SHARES:
        curves = _curves(measured, share)
        if curves:
            name = latency_name(share)
            has_knee = any(knee_of(curve.points) is not None for curve in curves)
            text = f"The knee is the last rate before {name} exceeds {KNEE_FACTOR:g} times its least"
            text += "." if has_knee else "; none of these rates is beyond one."
            return f"<h2>Latency against the rate</h2>{rates(curves, name, slo_ms)}<p>{text}</p>"
    return ""


def _curves(measured: Sequence[tuple[Recording, Row]], share: float) -> list[Curve]:
    """Of every target that was measured at more than one rate with samples enough for the percentile."""
    found: dict[str, dict[float, float]] = {}
    for recording, row in measured:
        rate, latency = _steady_rate(recording), row.summary.of(share)
        if rate is not None and latency.ms is not None and row.invalid_reason is None:
            # Of several at one rate the last: a search confirms what it tried before, for longer.
            found.setdefault(f"{row.model} on {row.target}, {row.backend}", {})[rate] = latency.ms
    return [Curve(name, sorted(points.items())) for name, points in found.items() if len(points) > 1]


def latency_name(share: float) -> str:
    """`p99 latency` for 0.99."""
    return f"{percentile_name(share)} latency"


def _steady_rate(recording: Recording) -> float | None:
    """The one rate of an open loop; None for closed loops, ramps, steps and traces."""
    scenario = Scenario.from_dict(recording.header["scenario"])
    arrivals = scenario.arrivals
    return arrivals.rates[0] if arrivals is not None and len(arrivals.rates) == 1 else None


def _sections(measured: Sequence[tuple[Recording, Row]], *, has_curves: bool) -> list[str]:
    """Scenarios with charts of their own. Of server, where many rates were tried, those are in one chart already."""
    names = dict.fromkeys(row.scenario for _, row in measured)
    servers = {row.scenario for recording, row in measured if recording.header["scenario"]["arrivals"] is not None}
    return [name for name in names if name not in servers or len(servers) <= MAX_SERVER_SECTIONS or not has_curves]


def _html_charts(scenario: str, measured: Sequence[tuple[Recording, Row]]) -> str:
    """The charts of one scenario: every target and backend in it, side by side."""
    chosen = [(recording, row) for recording, row in measured if row.scenario == scenario]
    series = [_series(recording, row) for recording, row in chosen]
    rates = [(each.name, row.summary.rows_per_s) for each, (_, row) in zip(series, chosen, strict=True)]
    return "\n".join(
        [
            f"<h2>{escape(scenario)}</h2>",
            "<h3>Latency by percentile</h3>",
            spectrum(series),
            "<h3>Latency over time</h3>",
            timeline(series),
            "<h3>Rows answered by second</h3>",
            bars(rates, "rows/s"),
        ]
    )


def _series(recording: Recording, row: Row) -> Series:
    ok = recording.is_ok
    name = f"{row.target}, {row.backend}"
    return Series(name, recording.samples.latency_ms[ok], recording.samples.planned_ns[ok] / 1e9)


def _html_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    def cells(tag: str, texts: Sequence[str]) -> str:
        kinds = [' class="words"' if column.is_words else "" for column in columns]
        return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))

    body = []
    for row in rows:
        style = "" if row.invalid_reason is None else ' class="invalid"'
        body.append(f"<tr{style}>{cells('td', [column.cell(row) for column in columns])}</tr>")
    return f"<table><tr>{cells('th', [column.name for column in columns])}</tr>{''.join(body)}</table>"


def _facts(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of one recording."""
    environment, target = header["environment"], header["target"]
    texts, digests = environment["hardware_text"], target["digests"]
    libraries = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items())
    return [
        ("processor", environment["cpu"] or "unknown"),
        ("instruction sets", texts["instruction sets"]),
        ("cores allowed", texts["cores allowed"]),
        ("memory allowed", texts["memory allowed"]),
        ("clock governor", texts["clock governor"]),
        ("kernel", environment["kernel"]),
        ("load average before", f"{environment['load_before'][0]:g}"),
        ("Python", environment["python"]),
        ("libraries", libraries),
        ("commit", environment["commit"] or UNKNOWN),
        ("server", target["server"] or "in process"),
        ("bundle sha256", digests.get("bundle", NOT_TOLD)),
        ("model sha256", digests.get("variant", NOT_TOLD)),
        ("inputs", header["inputs"]),
        ("seed", str(header["seed"])),
        ("warm-up", f"{header['warm_up_s']:g} s"),
    ]


def _html_facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts)
    return f'<table class="facts">{rows}</table>'


def _embedded(recordings: Sequence[Recording]) -> str:
    """Headers and samples; where there are very many, every so-manieth, and it says so."""
    total = sum(len(recording.samples) for recording in recordings)
    every = max(1, -(-total // MAX_EMBEDDED))
    found = [
        {
            "header": dict(recording.header),
            "every": every,
            "planned_us": (recording.samples.planned_ns[::every] // 1000).tolist(),
            "latency_us": (recording.samples.latency_ms[::every] * 1000).round().astype(int).tolist(),
            "status": recording.samples.status[::every].tolist(),
        }
        for recording in recordings
    ]
    # Inside a script element only "</" could end it.
    return json.dumps(found, separators=(",", ":")).replace("</", "<\\/")
