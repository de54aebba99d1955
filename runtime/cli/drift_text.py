"""A drift report for people: tables on a console."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.cli.console import facts
from runtime.cli.drift_figures import HEAD, figure_rows

MAX_SHOWN: Final = 6
"""Verdicts in full; the first are the ones to begin with."""


class Answer(StrEnum):
    """What a report comes to."""

    DRIFT = "drift"
    NOT_KNOWN = "not known"
    NONE = "none"


_STYLES: Final = {Answer.DRIFT: "red", Answer.NOT_KNOWN: "yellow", Answer.NONE: "green"}


def show(console: Console, report: Mapping[str, Any]) -> None:
    """Verdict first, then why, then where the model errs, then the figures."""
    head = f"{report['model']} version {report['version']}: {report['rows']:,} rows"
    if report.get("seen_by"):
        head += f" seen by {report['seen_by']}"
    console.print(Text(head, style="bold"))
    console.print(Text(summary_line(report), style=_STYLES[answer_of(report)]))
    if (told := report.get("by_device")) is not None:
        if told["drifting"]:
            console.print(Text(on_devices(told), style="red"))
        if told.get("not_known"):  # absent in what an earlier gateway wrote
            console.print(Text(not_known(told), style="yellow"))
    for verdict in report["verdicts"][:MAX_SHOWN]:
        _show_verdict(console, verdict, report)
    if len(report["verdicts"]) > MAX_SHOWN:
        console.print(f"  {len(report['verdicts']) - MAX_SHOWN} more with --json or --html")
    errors = report.get("errors")
    if errors is not None:
        _show_errors(console, errors)
    if report.get("estimate") is not None:
        estimate = report["estimate"]
        sure = estimate.get("mean_confidence")
        text = f"{estimate['accuracy']:.1%}{'' if sure is None else f' (average confidence {sure:.1%})'}; {estimate['assumptions']}"
        console.print(facts([("accuracy without labels", text)]))
    if report.get("figures"):
        console.print(_figures(report["figures"]))
    console.print()


def answer_of(report: Mapping[str, Any]) -> Answer:
    """By the rows of all, and by what devices say of themselves: one that drifts alone hides in the rows of a hundred others."""
    told = report.get("by_device") or {}
    if report["is_drifting"] or told.get("drifting"):
        return Answer.DRIFT
    return Answer.NOT_KNOWN if told.get("not_known") else Answer.NONE


def summary_line(report: Mapping[str, Any]) -> str:
    """The answer in one sentence."""
    learning = report.get("learning")
    if learning is not None:
        return f"no reference in the bundle: the first 1,000 rows become it, {learning['rows']} are there"
    baseline = report["baseline"]
    against = (
        f"the {baseline['rows']:,} rows of the bundle" if baseline["source"] == "bundle" else "the first rows seen"
    )
    if not report["verdicts"]:
        match answer_of(report):
            case Answer.DRIFT:
                return f"DRIFT on single devices; in the rows of all of them every feature lies as in {against}"
            case Answer.NOT_KNOWN:
                return f"no drift as far as may be known: every feature lies as in {against}"
            case Answer.NONE:
                return f"no drift: every feature lies as in {against}"
    names = ", ".join(verdict["feature"] for verdict in report["verdicts"][:5])
    more = len(report["verdicts"]) - 5
    return f"DRIFT against {against}: {names}{f' and {more} more' if more > 0 else ''}"


def on_devices(told: Mapping[str, Any]) -> str:
    """Which devices say that features drift there."""
    shown = told["names"][:MAX_SHOWN]
    names = "; ".join(f"{one['device']}: {', '.join(one['features'])}" for one in shown)
    more = told["drifting"] - len(shown)
    return f"{told['drifting']} of {told['devices']:,} devices drift: {names}{f'; and {more} more' if more > 0 else ''}"


def not_known(told: Mapping[str, Any]) -> str:
    """Of how many devices a gateway cannot say it, and why."""
    return (
        f"not known of {told['not_known']} of {told['devices']:,} devices: {told['private_rows']:,} rows are private, "
        "and only those devices look at them; their own pages tell"
    )


def when(verdict: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Since when, in rows of a file or in time before now."""
    now = report.get("now")
    if now is None:
        return f"since row {verdict['since']:,.0f}"
    ago_s = max(now - verdict["since"], 0)
    return f"since {ago_s / 3600:.1f} h ago" if ago_s > 5400 else f"since {ago_s / 60:.0f} min ago"


def _show_verdict(console: Console, verdict: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    size, chance = verdict["size"], verdict["by_chance"]
    console.print(Text.assemble("  ", (verdict["feature"], "bold"), f": {verdict['suspect']}, {when(verdict, report)}"))
    lines = [
        ("seen", verdict["detail"]),
        ("size", f"KS {size['ks']:.3f} (by chance {chance['ks']:.3f}), PSI {size['psi']:.3f} ({chance['psi']:.3f}), "
                 f"JS {size['js']:.3f} ({chance['js']:.3f}); p 1e{verdict['log10_p']:.0f} by {verdict['measure']}, "
                 f"against the {verdict['against']}"),
        ("bins", "; ".join(f"{b['bin']}: {b['reference']:.1%} → {b['live']:.1%}" for b in verdict["bins"])),
        ("next", verdict["next"]),
    ]  # fmt: skip
    console.print(facts((f"    {name}", value) for name, value in lines))


def _show_errors(console: Console, errors: Mapping[str, Any]) -> None:
    lines = [("accuracy", f"{errors['accuracy']:.2%}, {errors['wrong_rows']:,} rows wrong")]
    if errors.get("loss") is not None:
        lines.append(
            ("worse than the reference", f"{errors['loss']['text']}, since row {errors['loss']['since_row']:,}")
        )
    if errors["calibration"] is not None:
        error = errors["calibration"]["expected_calibration_error"]
        lines.append(("calibration", f"confidence is off by {error:.1%} on average"))
    console.print(facts(lines))
    if errors["slices"]:
        table = Table(
            "slice",
            "rows",
            "wrong",
            "elsewhere",
            "",
            title="worst slices",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for one in errors["slices"]:
            said = "proven" if one["is_proven"] else "may be chance"
            table.add_row(Text(one["slice"]), f"{one['rows']:,}", f"{one['loss']:.1%}", f"{one['rest_loss']:.1%}", said)
        console.print(table)
    if errors["confusion"]:
        pairs = ", ".join(f"{c['label']} taken for {c['predicted']} {c['rows']}×" for c in errors["confusion"][:5])
        console.print(facts([("confused", pairs)]))
    if errors["newest_disagreements"]:
        rows = ", ".join(map(disagreement, errors["newest_disagreements"][:5]))
        console.print(facts([("newest disagreements", rows)]))


def disagreement(one: Mapping[str, Any]) -> str:
    """A wrong answer in words; of a running program, by the request that it was in."""
    where = f"{one['request']} row {one['row']}" if "request" in one else f"row {one['row']}"
    sure = "" if one["confidence"] is None else f" at {one['confidence']:.0%}"
    return f"{where}: {one['predicted']}{sure}, label {one['label']}"


def _figures(figures: list[dict[str, Any]]) -> Table:
    table = Table(*HEAD, box=None, pad_edge=False)
    for row in figure_rows(figures):
        table.add_row(*row)
    return table
