"""A drift report as one HTML file: no script, nothing fetched, every text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from runtime.cli.drift_figures import HEAD, figure_rows
from runtime.cli.drift_text import Answer, answer_of, disagreement, not_known, on_devices, summary_line, when

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:CanvasText;background:Canvas}"
    ":root{color-scheme:light dark}table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;padding:.2rem .8rem .2rem 0;"
    "border-bottom:1px solid color-mix(in srgb,CanvasText 20%,transparent)}.bad{color:#c62828}.good{color:#2e7d32}"
    ".unknown{color:#ef6c00}"
    "section{margin:1rem 0 2rem}.bar{display:inline-block;height:.6rem;background:#1976d2}.live{background:#ef6c00}"
)

_CLASSES = {Answer.DRIFT: "bad", Answer.NOT_KNOWN: "unknown", Answer.NONE: "good"}


def page(reports: Sequence[Mapping[str, Any]]) -> str:
    """The file's text."""
    body = "".join(_section(report) for report in reports) or "<p>Nothing was counted yet.</p>"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta http-equiv=content-security-policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<meta name=viewport content='width=device-width'>"
        f"<title>Drift report</title><style>{_STYLE}</style><h1>Drift report</h1>{body}</html>\n"
    )


def _section(report: Mapping[str, Any]) -> str:
    parts = [
        f"<section><h2>{escape(str(report['model']))} version {report['version']}, {report['rows']:,} rows</h2>",
        f"<p class={_CLASSES[answer_of(report)]}><strong>{escape(summary_line(report))}</strong></p>",
        *_devices(report.get("by_device")),
        *(_verdict(verdict, report) for verdict in report["verdicts"]),
    ]
    errors = report.get("errors")
    if errors is not None:
        parts.append(f"<h3>Errors</h3><p>Accuracy {errors['accuracy']:.2%}, {errors['wrong_rows']:,} rows wrong.</p>")
        parts.append(_table(["slice", "rows", "wrong", "elsewhere"], [
            [s["slice"], s["rows"], f"{s['loss']:.1%}", f"{s['rest_loss']:.1%}"] for s in errors["slices"]]))  # fmt: skip
        parts.append(_table(["label", "predicted", "rows"], [
            [c["label"], c["predicted"], c["rows"]] for c in errors["confusion"]]))  # fmt: skip
        curve = [] if errors["calibration"] is None else errors["calibration"]["curve"]
        parts.append(_table(["confidence", "accuracy", "rows"], [
            [f"{c['confidence']:.1%}", f"{c['accuracy']:.1%}", c["rows"]] for c in curve]))  # fmt: skip
        parts.append(_table(["newest wrong answers"], [[disagreement(d)] for d in errors["newest_disagreements"]]))
    if report.get("figures"):
        parts.append("<h3>Figures</h3>" + _table(HEAD, figure_rows(report["figures"])))
    return "".join(parts) + "</section>"


def _devices(told: Mapping[str, Any] | None) -> Iterator[str]:
    """What devices say of themselves, where a gateway tells of theirs."""
    if told is not None and told["drifting"]:
        yield f"<p class=bad>{escape(on_devices(told))}</p>"
    if told is not None and told.get("not_known"):  # absent in what an earlier gateway wrote
        yield f"<p>{escape(not_known(told))}</p>"


def _verdict(verdict: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    bars = "".join(
        f"<tr><td>{escape(b['bin'])}<td><span class=bar style='width:{b['reference'] * 10:.2f}rem'></span> {b['reference']:.1%}"
        f"<td><span class='bar live' style='width:{b['live'] * 10:.2f}rem'></span> {b['live']:.1%}"
        for b in verdict["bins"]
    )
    size = verdict["size"]
    return (
        f"<h3>{escape(verdict['feature'])}: {escape(verdict['suspect'])}, {when(verdict, report)}</h3>"
        f"<p>{escape(verdict['detail'])}. KS {size['ks']:.3f}, PSI {size['psi']:.3f}, JS {size['js']:.3f}.</p>"
        f"<table><tr><th>bin<th>reference<th>now{bars}</table><p>Next: {escape(verdict['next'])}.</p>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    cells = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in row) for row in rows)
    return "<table><tr>" + "".join(f"<th>{escape(name)}" for name in head) + cells + "</table>"
