"""What the hybrid benchmark found: deadline hits against the oracle, extra load, recoveries, privacy; as values and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.hybrid.trace import Phase, Planned
from runtime.confidence.bound import upper_bound

HIT_BAR: Final = 0.995
LOAD_BAR: Final = 1.10
RECOVERY_BAR_S: Final = 5.0
# Service is normal again with the first of so many answers in a row that are as the rule wishes.
NORMAL_RUN: Final = 5
TAIL: Final = 0.025
"""Of the interval at each end: it covers the true share 95 times of 100 (Clopper and Pearson)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request of one contestant. `took_s` counts from the planned time."""

    took_s: float
    served_by: str
    """edge, cloud, or empty for an error."""
    reason: str


@dataclass(frozen=True, slots=True)
class Contestant:
    """One agent of the benchmark, and what became of the trace there; `outcomes` has the trace's order."""

    name: str
    wishes: str
    """The arm that its rule prefers where all is well."""
    outcomes: Sequence[Outcome]
    asked: Mapping[str, int]
    """Calls by arm, as the agent counted them: one to the gateways may be several on the link."""
    hedges: Mapping[str, int]
    retries: int
    leaks: int
    """Private requests seen on the link, or answered by the cloud."""
    calls_on_link: int = 0
    """That the proxy saw begin: inferences, retries, hedges and probes."""
    retries_held_back: int = 0
    refused_at_once: int = 0
    """Requests that no arm was asked for."""


@dataclass(frozen=True, slots=True)
class Run:
    """One trace, and what became of it at each contestant."""

    trace: Sequence[Planned]
    contestants: Sequence[Contestant]


def pooled(runs: Sequence[Run]) -> Run:
    """All of them as one; for shares and sums, not for times."""
    together = []
    for parts in zip(*(run.contestants for run in runs), strict=True):
        first = parts[0]
        together.append(
            Contestant(
                first.name,
                first.wishes,
                [outcome for part in parts for outcome in part.outcomes],
                dict(sum((Counter(part.asked) for part in parts), Counter())),
                dict(sum((Counter(part.hedges) for part in parts), Counter())),
                sum(part.retries for part in parts),
                sum(part.leaks for part in parts),
                sum(part.calls_on_link for part in parts),
                sum(part.retries_held_back for part in parts),
                sum(part.refused_at_once for part in parts),
            )
        )
    return Run([planned for run in runs for planned in run.trace], together)


@dataclass(frozen=True, slots=True)
class Line:
    """One contestant in one phase, or in all of them."""

    requests: int
    hits: int
    possible: int
    """Requests that the better of both single arms answered in time, at the same moment of the same trace."""
    hits_of_possible: int
    p50_ms: float
    p99_ms: float
    by_cloud: float

    @property
    def share(self) -> float:
        """Hits of those that one arm could make."""
        return self.hits_of_possible / self.possible if self.possible else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share that these are a draw of may lie."""
        missed = self.possible - self.hits_of_possible
        return 1 - upper_bound(missed, self.possible, TAIL), upper_bound(self.hits_of_possible, self.possible, TAIL)


def line(
    contestant: Contestant,
    trace: Sequence[Planned],
    can: Sequence[bool],
    deadline_s: float,
    phases: Collection[int] | None,
) -> Line:
    """The numbers of `contestant` in `phases`; None: all of them."""
    chosen = [index for index, planned in enumerate(trace) if phases is None or planned.phase in phases]
    outcomes = [contestant.outcomes[index] for index in chosen]
    hits = [bool(one.served_by) and one.took_s <= deadline_s for one in outcomes]
    possible = [can[index] for index in chosen]
    took = sorted(one.took_s for one in outcomes)
    return Line(
        requests=len(chosen),
        hits=sum(hits),
        possible=sum(possible),
        hits_of_possible=sum(hit and could for hit, could in zip(hits, possible, strict=True)),
        p50_ms=round(took[len(took) // 2] * 1e3, 1) if took else 0.0,
        p99_ms=round(took[min(int(len(took) * 0.99), len(took) - 1)] * 1e3, 1) if took else 0.0,
        by_cloud=sum(one.served_by == "cloud" for one in outcomes) / max(len(outcomes), 1),
    )


def possible(edge: Contestant, cloud: Contestant, trace: Sequence[Planned], deadline_s: float) -> list[bool]:
    """Whether the oracle, which knows both arms' times, meets each deadline; a private request has one arm only."""
    return [
        _is_hit(edge.outcomes[index], deadline_s)
        or (not planned.is_private and _is_hit(cloud.outcomes[index], deadline_s))
        for index, planned in enumerate(trace)
    ]


def load(contestant: Contestant) -> float:
    """Calls that arms got for every request that was not refused at once: local runs, and whatever began on the link."""
    calls = contestant.asked.get("edge", 0) + contestant.calls_on_link
    return calls / max(len(contestant.outcomes) - contestant.refused_at_once, 1)


def extra_load(contestant: Contestant) -> float:
    """Hedges and retries on top of every request that was not refused at once."""
    asked = max(len(contestant.outcomes) - contestant.refused_at_once, 1)
    return 1 + (contestant.hedges.get("sent", 0) + contestant.retries) / asked


def recoveries(
    contestant: Contestant, trace: Sequence[Planned], phases: Sequence[Phase], phase_s: float
) -> dict[str, float]:
    """For every phase that heals into a good one: seconds until answers are as the rule wishes again; infinite if never."""
    found = {}
    for number, phase in enumerate(phases[:-1]):
        if not phases[number + 1].name.startswith("good"):
            continue
        healed_at_s = (number + 1) * phase_s
        run: list[float] = []
        found[phase.name] = float("inf")
        for planned, outcome in zip(trace, contestant.outcomes, strict=True):
            if planned.phase != number + 1 or planned.is_private:
                continue
            if outcome.served_by != contestant.wishes:
                run = []
                continue
            run.append(planned.at_s)
            if len(run) == NORMAL_RUN:
                found[phase.name] = round(run[0] - healed_at_s, 2)
                break
    return found


def slowest_recoveries(runs: Sequence[Run], name: str, phases: Sequence[Phase], phase_s: float) -> dict[str, float]:
    """The worst of all runs, by phase."""
    worst: dict[str, float] = {}
    for run in runs:
        contestant = next(one for one in run.contestants if one.name == name)
        for phase, seconds in recoveries(contestant, run.trace, phases, phase_s).items():
            worst[phase] = max(worst.get(phase, 0.0), seconds)
    return worst


def markdown(
    runs: Sequence[Run],
    phases: Sequence[Phase],
    setup: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> str:
    """The report: one table of all, one of phases, and the bars, held or not."""
    deadline_s, phase_s = setup["deadline_s"], setup["phase_s"]
    whole_run = pooled(runs)
    trace, contestants = whole_run.trace, whole_run.contestants
    by_name = {one.name: one for one in contestants}
    can = possible(by_name["edge_only"], by_name["cloud_only"], trace, deadline_s)
    hybrids = [one for one in contestants if not one.name.endswith("_only")]
    lines = [
        f"# Hybrid routing, {setup['started'][:10]}",
        "",
        f"{environment['cpu']}, {environment['hardware_text'].get('cores', '')}; commit {environment['commit']}; "
        f"load before {environment['load_before']}.",
        f"Model {setup['model']}; {len(trace)} requests to each contestant at the same moments, {setup['rate_per_s']:g}/s, "
        f"deadline {deadline_s * 1e3:.0f} ms, phases of {phase_s:g} s, {setup['private_share']:.0%} private, "
        f"seeds {', '.join(map(str, setup['seeds']))}.",
        "Times count from the planned moment. *Possible*: the better of edge_only and cloud_only made it then (the oracle). "
        "*Calls a request*: local runs and every call that began on the link (fallbacks, retries, hedges, probes), for each "
        "request that was not refused at once.",
        "",
        "| | hits | hits of possible | p50 ms | p99 ms | by cloud | calls a request | hedges sent/won/held | retries/held "
        "| refused at once | leaks |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| oracle | {sum(can) / len(can):.2%} | 100 % | | | | | | | | |",
    ]
    for one in contestants:
        whole = line(one, trace, can, deadline_s, None)
        hedges = "/".join(str(one.hedges.get(key, 0)) for key in ("sent", "won", "held_back"))
        lines.append(
            f"| {one.name} | {whole.hits / whole.requests:.2%} | {whole.share:.2%} | {whole.p50_ms:g} | {whole.p99_ms:g} "
            f"| {whole.by_cloud:.0%} | {load(one):.3f} | {hedges} | {one.retries}/{one.retries_held_back} "
            f"| {one.refused_at_once} | {one.leaks} |"
        )
    lines += ["", "Hits of possible, by phase, with the interval that 95 of 100 such draws hold the true share in:", ""]
    lines.append("| phase | possible | " + " | ".join(one.name for one in contestants) + " |")
    lines.append("|---" * (len(contestants) + 2) + "|")
    for number, phase in enumerate(phases):
        cells = [line(one, trace, can, deadline_s, {number}) for one in contestants]
        words = [
            f"{cell.hits_of_possible}/{cell.possible} ({cell.interval[0]:.1%} to {cell.interval[1]:.1%})"
            for cell in cells
        ]
        name = f"{phase.name} (beyond the bar)" if phase.is_beyond else phase.name
        lines.append(f"| {name} | {cells[0].possible}/{cells[0].requests} | " + " | ".join(words) + " |")
    lines += [
        "",
        f"Seconds from healing to the first of {NORMAL_RUN} answers in a row from the arm that the rule wishes for:",
        "",
    ]
    lines.append("| after | " + " | ".join(one.name for one in hybrids) + " |")
    lines.append("|---" * (len(hybrids) + 1) + "|")
    found = {one.name: slowest_recoveries(runs, one.name, phases, phase_s) for one in hybrids}
    for name in next(iter(found.values())):
        lines.append(f"| {name} | " + " | ".join(f"{found[one.name][name]:g}" for one in hybrids) + " |")
    lines += ["", "| bar | found | |", "|---|---|---|"]
    for what, value, is_held in bars(runs, phases, setup):
        lines.append(f"| {what} | {value} | {'held' if is_held else '**missed**'} |")
    return "\n".join(lines) + "\n"


def bars(runs: Sequence[Run], phases: Sequence[Phase], setup: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Each bar, what was found, and whether it holds; the worst hybrid counts.

    A phase has too few requests to show 99.5 %: it misses the bar where even the upper end of its interval does.
    """
    whole = pooled(runs)
    by_name = {one.name: one for one in whole.contestants}
    can = possible(by_name["edge_only"], by_name["cloud_only"], whole.trace, setup["deadline_s"])
    hybrids = [one for one in whole.contestants if not one.name.endswith("_only")]

    def share_of(one: Contestant, some: Collection[int] | None) -> Line:
        return line(one, whole.trace, can, setup["deadline_s"], some)

    asked_for = {at for at, phase in enumerate(phases) if not phase.is_beyond}
    share = min(share_of(one, asked_for).share for one in hybrids)
    extra = max(extra_load(one) for one in hybrids)
    slowest = max(
        max(slowest_recoveries(runs, one.name, phases, setup["phase_s"]).values(), default=0.0) for one in hybrids
    )
    leaks = sum(one.leaks for one in hybrids)
    by_phase = [(at, one.name, share_of(one, {at})) for at in range(len(phases)) for one in hybrids]
    below = [
        f"{phases[at].name}, {who}: {found.hits_of_possible}/{found.possible}"
        for at, who, found in by_phase
        if at in asked_for and found.interval[1] < HIT_BAR
    ]
    beyond = [at for at in range(len(phases)) if at not in asked_for]
    within = ", in the phases that the bar is about" if beyond else ""
    found = [
        (f"deadline hits >= {HIT_BAR:.1%} whenever one arm could make it{within}", f"{share:.2%}", share >= HIT_BAR),
        (f"the same in every {'one of them' if beyond else 'phase'}", "; ".join(below) or "none shows less", not below),
    ]
    if beyond:
        with_them = min(share_of(one, None).share for one in hybrids)
        cells = [(phases[at].name, who, cell) for at, who, cell in by_phase if at in beyond]
        said = [f"{name}, {who}: {cell.hits_of_possible}/{cell.possible}" for name, who, cell in cells]
        told = f"{'; '.join(said)}; all phases together {with_them:.2%}"
        found.append(("the same with the phases beyond it", told, with_them >= HIT_BAR))
    return [
        *found,
        (f"load with hedges and retries <= {LOAD_BAR:.2f} x", f"{extra:.3f}", extra <= LOAD_BAR),
        (f"normal service within {RECOVERY_BAR_S:g} s", f"{slowest:g} s", slowest <= RECOVERY_BAR_S),
        ("privacy violations 0", str(leaks), leaks == 0),
    ]


def _is_hit(outcome: Outcome, deadline_s: float) -> bool:
    return bool(outcome.served_by) and outcome.took_s <= deadline_s
