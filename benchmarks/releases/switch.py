"""S7: how many requests come after a decision and are still on the old split, and whether any is dropped, under load.

    python -m benchmarks.releases.switch

Two gateways on one database, one of which leads, with a blue-green release whose share is set by hand, again and again, to all and
to nearly none of the traffic, while as many clients ask each of them without a pause. The decision is the stamp in the audit log: a
step forward is written and committed before traffic moves, a rollback moves traffic first. A request counts when it was *sent*
after that stamp and is answered by the version that the new split gives (nearly) nothing. All on one machine, by its wall clock.
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

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases.gateways import MODEL, START_TIMEOUT_S, RunningGateway, gateways, one_row
from runtime.client import connect
from runtime.store import sqlite_url

# Ends at which an answer says which split it was on: of a million requests one gets the candidate by chance.
ALL, NEARLY_NONE = 100.0, 0.0001
# Between two switches; a gateway that follows looks into the database five times a second.
PAUSE_S: Final = 0.6
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
    decided: float
    answered: float
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
        made = [_switch(leader, number) for number in range(switches)]
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
            "switches": [_judge(one.answers, switch) for switch in made],
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


def _switch(gateway: RunningGateway, number: int) -> _Switch:
    time.sleep(PAUSE_S)
    percent = NEARLY_NONE if number % 2 == 0 else ALL
    sent = time.time()
    gateway.admin.post(f"/admin/releases/{MODEL}/promote", {"to_percent": percent})
    return _Switch(sent, _decided(gateway), time.time(), "2" if percent == NEARLY_NONE else "1")


def _roll_back(gateway: RunningGateway) -> _Switch:
    time.sleep(PAUSE_S)
    sent = time.time()
    gateway.admin.post(f"/admin/releases/{MODEL}/rollback")
    return _Switch(sent, _decided(gateway), time.time(), "2")


def _decided(gateway: RunningGateway) -> float:
    """When the newest command was decided, by the audit log."""
    lines = gateway.admin.get("/admin/audit", {"model": MODEL, "limit": "1000"})["lines"]
    stamped = [line for line in lines if line["event"] in ("promote", "rollback")]
    return float(stamped[-1]["document"]["decided_unix_us"]) / 1e6


def _judge(answers: list[_Answer], switch: _Switch) -> dict[str, Any]:
    until = switch.decided + PAUSE_S
    old = [one for one in answers if one.version == switch.old and one.came > switch.decided and one.sent < until]
    late = [one for one in old if one.sent >= switch.decided]
    return {
        "decided_ms": (switch.decided - switch.sent) * 1e3,
        "under_way": len(old) - len(late),
        "sent_after": len(late),
        "last_sent_ms": max(((one.sent - switch.decided) * 1e3 for one in late), default=0.0),
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
        "Counted, each as median / worst of the switches: requests that were under way when the decision was stamped and were "
        "answered on the old split; requests *sent* after the stamp and answered on the old split; and how long after it the last "
        "of these was sent. The stamp is in the audit log: just before the commit, after which traffic moves; of a rollback, the "
        "moment in which traffic moved.",
        "",
        "| callers | gateway | requests/s | under way, old split | sent after, old split | the last of them, ms | "
        "rollback: sent after | dropped |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in told["rows"]:
        *switches, rollback = row["switches"]
        figures = [_both(switches, name) for name in ("under_way", "sent_after", "last_sent_ms")]
        lines.append(
            f"| {row['callers']} | {row['gateway']} | {row['requests_per_s']:,.0f} | {' | '.join(figures)} | "
            f"{rollback['sent_after']} | {len(row['dropped'])} of {row['requests']:,} |"
        )
    return "\n".join(lines) + "\n"


def _both(switches: list[dict[str, Any]], name: str) -> str:
    values = sorted(one[name] for one in switches)
    return f"{values[len(values) // 2]:.0f} / {values[-1]:.0f}"


if __name__ == "__main__":
    main()
