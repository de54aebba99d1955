"""S7: how long after a decision the last request is on the old split, and whether any is dropped, under load.

    python -m benchmarks.releases.switch

One gateway with a blue-green release whose share is set by hand, again and again, to all and to nearly none of the traffic, while
clients ask without a pause. All clocks are this machine's monotonic one. A request is on the old split when it was sent after the
command and is answered by the version that the new split gives (nearly) nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases.gateways import MODEL, RunningGateway, gateways, one_row
from runtime.client import connect

# Ends at which an answer says which split it was on: of a million requests one gets the candidate by chance.
ALL, NEARLY_NONE = 100.0, 0.0001
PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class _Answer:
    sent: float
    came: float
    version: str


class _Callers:
    """Threads that ask without a pause, and remember everything."""

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
                sent = time.monotonic()
                try:
                    reply = client.predict(MODEL, self._image, timeout_s=10.0)
                except Exception as error:  # whatever it is, it was dropped
                    self.errors.append(repr(error))
                    continue
                self.answers.append(_Answer(sent, time.monotonic(), reply.version))


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=100)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    environment = read_environment()
    with tempfile.TemporaryDirectory(prefix="edgeward-switch-") as scratch, gateways(Path(scratch), ["one"]) as started:
        gateway = started["one"]
        gateway.start_release({"strategy": "blue_green", "keep_warm_s": 86400, "promote_by_hand": True})
        with _Callers(gateway.grpc, options.callers) as callers:
            began = time.monotonic()
            commands = [_switch(gateway, number) for number in range(options.switches)]
            took_s = time.monotonic() - began
            rollback = _roll_back(gateway)
            time.sleep(PAUSE_S)
    switches = [_judge(callers.answers, *command) for command in [*commands, rollback]]
    told = {
        "when": now_utc(),
        "environment": environment,
        "plan": vars(options) | {"out": ""},
        "requests": len(callers.answers),
        "requests_per_s": len(callers.answers) / took_s,
        "dropped": callers.errors,
        "switches": switches,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "releases-switch.json").write_text(json.dumps(told) + "\n")
    text = _markdown(told)
    (options.out / "releases-switch.md").write_text(text)
    print(text)


def _switch(gateway: RunningGateway, number: int) -> tuple[float, float, str]:
    """When the command was sent and answered, and the version that is then the old one's."""
    time.sleep(PAUSE_S)
    percent = NEARLY_NONE if number % 2 == 0 else ALL
    sent = time.monotonic()
    gateway.admin.post(f"/admin/releases/{MODEL}/promote", {"to_percent": percent})
    return sent, time.monotonic(), "2" if percent == NEARLY_NONE else "1"


def _roll_back(gateway: RunningGateway) -> tuple[float, float, str]:
    time.sleep(PAUSE_S)
    sent = time.monotonic()
    gateway.admin.post(f"/admin/releases/{MODEL}/rollback")
    return sent, time.monotonic(), "2"


def _judge(answers: list[_Answer], sent: float, answered: float, old: str) -> dict[str, Any]:
    until = answered + PAUSE_S
    stale = [one for one in answers if sent <= one.sent < until and one.version == old]
    return {
        "command_ms": (answered - sent) * 1e3,
        "last_old_sent_ms": max(((one.sent - sent) * 1e3 for one in stale), default=0.0),
        "old_sent_after_the_reply": sum(one.sent > answered for one in stale),
        "old_in_between": len(stale),
        "asked_in_between": sum(sent <= one.sent < answered for one in answers),
    }


def _markdown(told: dict[str, Any]) -> str:
    environment, plan, switches = told["environment"], told["plan"], told["switches"]
    *shares, rollback = switches
    lasts = sorted(one["last_old_sent_ms"] for one in shares)
    commands = sorted(one["command_ms"] for one in shares)
    late = sum(one["old_sent_after_the_reply"] for one in switches)

    def at(values: list[float], share: float) -> str:
        return f"{values[min(int(len(values) * share), len(values) - 1)]:.1f}"

    lines = [
        "# S7: switching a split under load",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; Python "
        f"{environment['python']}; commit {environment['commit']}; {told['when']}. Load average before: "
        f"{environment['load_before'][0]}.",
        f"{len(shares)} switches between all and (nearly) none of the traffic and a rollback at the end; {plan['callers']} callers "
        f"over gRPC without a pause, {told['requests_per_s']:,.0f} requests/s, on the same cores. A switch forward is on disk "
        "(one transaction, synced) before traffic moves; a rollback moves traffic first.",
        "",
        "| | median | p90 | worst |",
        "|---|---:|---:|---:|",
        f"| command sent → last request sent on the old split, ms | {at(lasts, 0.5)} | {at(lasts, 0.9)} | {lasts[-1]:.1f} |",
        f"| command sent → its answer, with the transaction, ms | {at(commands, 0.5)} | {at(commands, 0.9)} | {commands[-1]:.1f} |",
        f"| rollback: command sent → last request on the old split, ms | {rollback['last_old_sent_ms']:.1f} | | |",
        "",
        f"Requests sent after a command was answered and on the old split: {late} of {told['requests']:,}. "
        f"Requests dropped or failed: {len(told['dropped'])}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
