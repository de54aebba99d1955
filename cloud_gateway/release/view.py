"""A release's status for people, and how it changes while they watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cloud_gateway.release.first_stage import FirstStage
from cloud_gateway.release.plan import ReleasePlan
from runtime.cli.console import facts

_STYLES = {
    "running": "cyan",
    "settling": "cyan",
    "paused": "yellow",
    "promoted": "green",
    "completed": "green",
    "rolled_back": "red",
    "aborted": "yellow",
}
MAX_CONFUSIONS_SHOWN = 8


def show_release(told: Mapping[str, Any]) -> RenderableType:
    """All of a release's status."""
    status = str(told["status"])
    head = Text.assemble(
        (f"{told['model']} ", "bold"),
        f"release {told['release']}: version {told['stable']} → {told['candidate']} ({told['strategy']})  ",
        (status.replace("_", " "), _STYLES.get(status, "")),
    )
    parts: list[RenderableType] = [head]
    if told["stages"]:
        parts.append(_stages(told))
    pairs = [("why", str(told["reason"]))]
    if told.get("needed") is not None:
        pairs.append(("still needed", f"about {told['needed']:,} requests"))
    if told.get("trouble"):
        pairs.append(("trouble", str(told["trouble"])))
    if not told.get("is_leading", True):
        pairs.append(("led by", str(told.get("leader") or "nobody yet")))
    parts.append(facts(pairs))
    if "waves" in told:
        parts.append(_waves(told["waves"]))
    if "arms" in told:
        parts.append(_arms(told))
    if told.get("verdict"):
        parts.append(_findings(told["verdict"]["findings"]))
    if "shadow" in told:
        parts.append(_shadow(told["shadow"]))
    if told.get("losses", {}).get("labelled"):
        parts.append(_losses(told["losses"]))
    return Group(*parts)


def show_plan(plan: ReleasePlan, first: FirstStage | None) -> RenderableType:
    """What a plan does, before it begins."""
    pairs = [("stages", ", ".join(f"{stage:g} %" for stage in plan.stages))] if plan.stages else []
    pairs += [("guard", f"{guard.label}, margin {guard.margin:g}") for guard in plan.guards]
    if first is not None:
        pairs.append(("at first", str(first)))
    title = f"{plan.model}: version {plan.stable} → {plan.candidate} ({str(plan.strategy).replace('_', '-')})"
    return facts(pairs, title=title)


def show_releases(listed: Sequence[Mapping[str, Any]], unreadable: Sequence[Mapping[str, Any]] = ()) -> Table:
    """One line a release, those last that the gateway cannot read."""
    table = Table("release", "model", "versions", "strategy", "status", "share", "why", box=None, pad_edge=False)
    for told in listed:
        status = str(told["status"])
        table.add_row(
            str(told["release"]),
            Text(str(told["model"])),
            f"{told['stable']} → {told['candidate']}",
            str(told["strategy"]),
            Text(status.replace("_", " "), style=_STYLES.get(status, "")),
            f"{told['share']:.0%}",
            Text(str(told["reason"])),
        )
    for told in unreadable:
        status = str(told["status"]).replace("_", " ")
        table.add_row(
            str(told["release"]), Text(str(told["model"])), "–", "–", Text(status), "–", Text(str(told["why"]))
        )
    return table


def show_audit(lines: Sequence[Mapping[str, Any]]) -> Table:
    """One line an event."""
    from datetime import UTC, datetime

    table = Table("line", "when (UTC)", "model", "event", "what", box=None, pad_edge=False)
    for line in lines:
        document = line["document"]
        what = "; ".join(str(document[key]) for key in ("reason", "harm") if document.get(key)) or str(
            document.get("digest", "")
        )
        when = datetime.fromtimestamp(line["unix_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(line["number"]), when, Text(line["model"]), line["event"], Text(what))
    return table


def show_simulation(told: Mapping[str, Any]) -> RenderableType:
    """The way of a plan over a log."""
    table = Table("at", "requests", "what", "candidate's share", "why", box=None, pad_edge=False)
    for step in told["steps"]:
        table.add_row(
            f"{step['at_s']:.1f} s",
            f"{step['requests']:,}",
            "begin" if step["move"] == "hold" else step["move"],
            f"{step['share']:.0%}",
            Text(str(step["reason"])),
        )
    pairs = [
        ("ends", f"{told['status']} after {told['requests']:,} requests: {told['reason']}"),
        ("harm", str(told["harm"]["said"])),
    ]
    if told["left_out"]:
        pairs.append(("left out", f"{told['left_out']:,} lines that say nothing of one version"))
    if told["needed"] is not None:
        pairs.append(("still needed", f"about {told['needed']:,} requests"))
    return Group(table, facts(pairs), _findings(told["verdict"]["findings"]))


def _stages(told: Mapping[str, Any]) -> Text:
    line = Text("  ")
    for at, percent in enumerate(told["stages"]):
        here = at == told["stage"] and told["is_alive"]
        line.append(f"[{percent:g}%]" if here else f" {percent:g}% ", style="bold cyan" if here else "dim")
        if at < len(told["stages"]) - 1:
            line.append("─", style="dim")
    line.append(
        f"   candidate gets {told['share'] * 100:g} % of the traffic; in this stage for {told['in_stage_s']:.0f} s"
    )
    return line


def _waves(waves: Mapping[str, Any]) -> RenderableType:
    line = Text("  ")
    for at, percent in enumerate(waves["percent"], 1):
        here = at == waves["wave"] and waves["status"] == "running"
        line.append(f"[{percent:g}%]" if here else f" {percent:g}% ", style="bold cyan" if here else "dim")
    outcomes = (
        ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in waves["outcomes"].items()) or "none yet"
    )
    pairs = [
        ("devices", f"waves {waves['status']}: {waves['given']} of {waves['devices']} have it, {waves['allowed']} may"),
        ("outcomes", outcomes),
        ("why", str(waves["reason"])),
    ]
    return Group(line, facts(pairs))


def _arms(told: Mapping[str, Any]) -> Table:
    table = Table("arm", "requests", "errors", "p50", "p99", box=None, pad_edge=False)
    for name, arm in told["arms"].items():
        table.add_row(name, f"{arm['requests']:,}", f"{arm['errors']:,}", _ms(arm["p50_ms"]), _ms(arm["p99_ms"]))
    if told.get("replaced_by_stable"):
        table.add_row("", "", f"{told['replaced_by_stable']:,} of them answered by stable instead")
    return table


def _findings(findings: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("guard", "segment", "difference", "from", "to", "what it says", box=None, pad_edge=False)
    for one in findings:
        table.add_row(
            Text(str(one["metric"])),
            Text(str(one["segment"] or "all")),
            *(_number(one[key]) for key in ("difference", "lower", "upper")),
            Text(str(one["reason"])),
        )
    return table


def _shadow(shadow: Mapping[str, Any]) -> RenderableType:
    pairs = [
        (
            "side by side",
            f"{shadow['compared']:,} compared, {shadow.get('dropped', 0):,} dropped, {shadow['candidate_errors']:,} failed",
        )
    ]
    if shadow["compared"]:
        pairs.append(("agreement", f"{shadow['agreement']:.4%}, mean distance {shadow['mean_distance']:.5f}"))
    noise = shadow["noise_floor"]
    if noise["compared"]:
        source = shadow.get("noise_from", "itself")
        pairs.append(("noise floor", f"{noise['agreement']:.4%} of {noise['compared']:,} agree with {source}"))
    if shadow["stable"]["p50_ms"] is not None:
        pairs.append(("latency alone", _both_latencies(shadow)))
    if shadow["confusion"]:
        pairs.append(("differ", _confused(shadow["confusion"])))
    for name, one in shadow["segments"].items():
        said = [f"{one['agreement']:.4%} of {one['compared']:,}"] if one["compared"] else []
        said += [f"{one['candidate_errors']:,} failed"] if one["candidate_errors"] else []
        said += [_both_latencies(one)] if one["stable"]["p50_ms"] is not None else []
        said += [f"differ {_confused(one['confusion'])}"] if one["confusion"] else []
        pairs.append((f"segment {name}", "; ".join(said)))
    return facts(pairs)


def _both_latencies(one: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{arm} p50 {_ms(one[arm]['p50_ms'])}, p99 {_ms(one[arm]['p99_ms'])}" for arm in ("stable", "candidate")
    )


def _confused(confusion: Mapping[str, int]) -> str:
    most = list(confusion.items())[:MAX_CONFUSIONS_SHOWN]
    return ", ".join(f"{pair.replace('>', '→')} {count}×" for pair, count in most)


def _losses(losses: Mapping[str, Any]) -> RenderableType:
    pairs = [("labels", f"{losses['labelled']:,}, of {losses['paired']:,} both versions had the request")]
    pairs += [
        (
            "losses" if not name else f"segment {name}",
            f"stable {_loss(one['stable_loss'])}, candidate {_loss(one['candidate_loss'])}",
        )
        for name, one in [("", losses), *losses["segments"].items()]
        if one["paired"]
    ]
    people = losses["people"]
    for arm in ("stable", "candidate"):
        one = people[arm]
        if one["compared"]:
            said = f"people {_loss(one['people_loss'])}, {arm} {_loss(one['loss'])} on {one['compared']:,} that people answered"
            pairs.append((f"people and {arm}", said))
    if people["confusion"]:
        pairs.append(("they differ", _confused(people["confusion"])))
    return facts(pairs)


def _loss(value: float) -> str:
    return f"{value:.4g}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} ms"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4g}"
