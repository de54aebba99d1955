"""S7: how many requests come after a decision and are still on the old split, and whether any is dropped, under load.

    python -m benchmarks.releases.switch

Two gateways on one database, one of which leads, with a blue-green release whose share is set by hand, again and again, to all and
to nearly none of the traffic, while as many clients ask each of them without a pause. Each gateway tells when its callers got the
new split (`switched_unix_us`). A switch is decided when both have it, as the audit log's line `switched` says, and its command is
answered after that. A request on the old split is one that is answered by the version that the new split gives (nearly) nothing: it
was under way when its gateway switched, or it was *sent* after the decision. What the leader's callers got earlier is no part of
that: the table also has what the one that follows answered on the old split after the leader had switched. All on one machine, by
its wall clock.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.bar import counted
from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases.gateways import MODEL, START_TIMEOUT_S, RunningGateway, gateways, one_row
from runtime.client import connect
from runtime.store import sqlite_url

# Ends at which an answer says which split it was on: of a million requests one gets the candidate by chance.
ALL, NEARLY_NONE = 100.0, 0.0001
# Between two switches: time enough for both gateways.
PAUSE_S: Final = 0.6
# The most rows that the scheduler runs at once unless it is told otherwise.
BATCH: Final = 32
LEADER, FOLLOWER = "the gateway that leads", "the one that follows"


@dataclass(frozen=True, slots=True)
class _Answer:
    sent: float
    came: float
    version: str


@dataclass(frozen=True, slots=True)
class _Switch:
    """One command, by the wall clock."""

    sent: float
    written: float
    """Of a step forward: when its transaction began to be committed."""
    switched: dict[str, float]
    """By gateway. Empty of one where the release had ended by then."""
    decided: float
    """When it held for callers of both."""
    old: str
    """The version that the new split gives (nearly) nothing."""


class _Callers:
    """Threads that ask one gateway without a pause, and remember everything."""

    def __init__(self, address: str, count: int) -> None:
        self.answers: list[_Answer] = []  # append is atomic
        self.errors: list[str] = []
        self._address = address
        self._image = one_row()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> _Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with connect(self._address) as client:
            while not self._stop.is_set():
                sent = time.time()
                try:
                    reply = client.predict(MODEL, self._image, timeout_s=10.0)
                except Exception as error:  # whatever it is, it was dropped
                    self.errors.append(repr(error))
                    continue
                self.answers.append(_Answer(sent, time.time(), reply.version))


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    environment = read_environment()
    rows = [row for count in options.callers for row in _measured(count, options.switches)]
    told = {
        "when": now_utc(),
        "environment": environment,
        "plan": vars(options) | {"out": ""},
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "releases-switch.json").write_text(json.dumps(told) + "\n")
    text = _markdown(told)
    (options.out / "releases-switch.md").write_text(text)
    print(text)


def _measured(count: int, switches: int) -> list[dict[str, Any]]:
    """A row for each of the two gateways, with so many callers at each."""
    with tempfile.TemporaryDirectory(prefix="edgeward-switch-") as scratch, ExitStack() as stack:
        database = sqlite_url(Path(scratch) / "shared.db")
        started = stack.enter_context(gateways(Path(scratch), [LEADER, FOLLOWER], database))
        leader = started[LEADER]
        # One that cannot end and whose guards, on two like versions, have nothing to find.
        leader.start_release({"strategy": "blue_green", "keep_warm_s": 86400, "promote_by_hand": True})
        _wait_until_it_runs(started[FOLLOWER])
        callers = {name: stack.enter_context(_Callers(one.grpc, count)) for name, one in started.items()}
        began = time.time()
        made = [_switch(started, number) for number in counted(range(switches), f"{count} callers, switch")]
        took_s = time.time() - began
        made.append(_roll_back(leader))
        time.sleep(PAUSE_S)
    return [
        {
            "gateway": name,
            "callers": count,
            "requests": len(one.answers),
            "requests_per_s": len(one.answers) / took_s,
            "dropped": one.errors,
            "switches": [_judge(one.answers, switch, name) for switch in made],
        }
        for name, one in callers.items()
    ]


def _wait_until_it_runs(gateway: RunningGateway) -> None:
    """On a gateway that follows: it loads the candidate once it sees the release."""
    for _ in range(round(START_TIMEOUT_S / PAUSE_S)):
        time.sleep(PAUSE_S)
        found = gateway.admin.get("/admin/releases")["releases"]
        if any("arms" in one for one in found):
            return
    raise SystemExit(f"the gateway that follows never ran the release: {found}")


def _switch(started: dict[str, RunningGateway], number: int) -> _Switch:
    percent = NEARLY_NONE if number % 2 == 0 else ALL
    sent = time.time()
    started[LEADER].admin.post(f"/admin/releases/{MODEL}/promote", {"to_percent": percent})
    time.sleep(PAUSE_S)
    switched = {name: float(one.status()["switched_unix_us"]) / 1e6 for name, one in started.items()}
    leader = started[LEADER]
    old = "2" if percent == NEARLY_NONE else "1"
    return _Switch(sent, _said(leader, "promote"), switched, _said(leader, "switched"), old)


def _roll_back(leader: RunningGateway) -> _Switch:
    sent = time.time()
    leader.admin.post(f"/admin/releases/{MODEL}/rollback")
    moved = _said(leader, "rollback")  # of a step back, when traffic moved
    return _Switch(sent, moved, {LEADER: moved}, _said(leader, "switched"), "2")


def _said(gateway: RunningGateway, event: str) -> float:
    """The moment of the newest such line of the audit log."""
    lines = gateway.admin.get("/admin/audit", {"model": MODEL, "limit": "1000"})["lines"]
    stamped = [line for line in lines if line["event"] == event]
    return float(stamped[-1]["document"]["decided_unix_us"]) / 1e6


def _judge(answers: list[_Answer], switch: _Switch, gateway: str) -> dict[str, Any]:
    """Of one gateway's callers."""
    own, leaders = switch.switched.get(gateway), switch.switched[LEADER]
    until = switch.decided + PAUSE_S
    old = [one for one in answers if one.version == switch.old and one.came > leaders and one.sent < until]
    return {
        "decided_ms": (switch.decided - switch.sent) * 1e3,
        "behind_ms": None if own is None else (own - leaders) * 1e3,
        "under_way": None if own is None else sum(one.sent < own < one.came for one in old),
        "sent_after_leader": sum(one.sent >= leaders for one in old),
        "under_way_at_decision": sum(one.sent < switch.decided < one.came for one in old),
        "sent_after": sum(one.sent >= switch.decided for one in old),
    }


def _markdown(told: dict[str, Any]) -> str:
    environment, plan = told["environment"], told["plan"]
    lines = [
        "# S7: switching a split under load",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; Python "
        f"{environment['python']}; commit {environment['commit']}; {told['when']}. Load average before: "
        f"{environment['load_before'][0]}.",
        f"Two gateways on one database, both and all callers on the same cores; {plan['switches']} switches a row between all and "
        "(nearly) none of the traffic, and a rollback at the end.",
        "A switch is decided when both gateways have it; its command is answered then, so long after it was sent: "
        f"{_both([one for row in told['rows'] for one in row['switches']], 'decided_ms')} ms. Counted, each as median / worst: how "
        "long after the leader this gateway switched; requests sent after the leader had switched, and answered on the old split; "
        "those under way when this gateway switched, and answered on the old split; and after the decision: those under way, and "
        "those *sent*, answered on the old split. A batch has as many requests as the calibration found best, 32 at most.",
        "",
        "| callers | gateway | requests/s | switched after, ms | sent after the leader's | under way | decided: under way | "
        "decided: sent after | rollback: sent after | dropped |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = ("behind_ms", "sent_after_leader", "under_way", "under_way_at_decision", "sent_after")
    for row in told["rows"]:
        *switches, rollback = row["switches"]
        figures = [_both(switches, name) for name in names]
        lines.append(
            f"| {row['callers']} | {row['gateway']} | {row['requests_per_s']:,.0f} | {' | '.join(figures)} | "
            f"{rollback['sent_after']} | {len(row['dropped'])} of {row['requests']:,} |"
        )
    return "\n".join([*lines, "", "## Bars", "", *_bars(told["rows"])]) + "\n"


def _bars(rows: list[dict[str, Any]]) -> list[str]:
    """Of each gateway, over all callers and switches, the rollbacks among them."""
    told = []
    for gateway in (LEADER, FOLLOWER):
        own = [row for row in rows if row["gateway"] == gateway]
        worst = max(one["under_way_at_decision"] + one["sent_after"] for row in own for one in row["switches"])
        count = sum(len(row["switches"]) for row in own)
        held = "held" if worst <= BATCH else "**missed**"
        told.append(
            f"- {held}: {gateway}: at most one batch ({BATCH}) of requests after the decision on the old split: {worst} at worst "
            f"of {count} switches, those under way included"
        )
    dropped, asked = sum(len(row["dropped"]) for row in rows), sum(row["requests"] for row in rows)
    told.append(f"- {'held' if not dropped else '**missed**'}: no request is dropped: {dropped} of {asked:,}")
    return told


def _both(switches: list[dict[str, Any]], name: str) -> str:
    values = sorted(one[name] for one in switches)
    return f"{values[len(values) // 2]:.0f} / {values[-1]:.0f}"


if __name__ == "__main__":
    main()
