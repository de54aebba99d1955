"""What an active release costs the requests that stable answers: a canary, and a canary with a shadow of all of them.

    python -m benchmarks.releases.overhead

Three gateways with the same model: without a release, with a canary of 5 %, and with that and a shadow of everything that stable
answers. In every round each is asked for a while, in a new order; requests come one at a time, at a fixed rate. The candidate's
answers are left out: it is what stable's callers wait for. Wants a machine that does nothing else; `path_cost` measures the same
inside one process, and stands more noise.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases.gateways import MODEL, RunningGateway, gateways, one_row
from benchmarks.releases.paired import BAR, against, verdict
from runtime.client import connect

PLAIN, CANARY, SHADOW = "no release", "canary 5 %", "canary 5 % and shadow 100 %"
# A guard that nobody can satisfy soon, so that the release stays where it is while it is measured.
PLAN: dict[str, Any] = {"stages": [5, 100], "hold_s": 3600, "promote_by_hand": True}
WARM_UP_S = 2.0
# Of the machine's wake-ups: below that a sleep ends late, and the client spins.
SPIN_S = 0.0005


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each gateway in a round")
    parser.add_argument("--rate", type=float, nargs="+", default=[100.0, 300.0], help="requests a second")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    environment = read_environment()
    with (
        tempfile.TemporaryDirectory(prefix="edgeward-overhead-") as scratch,
        gateways(Path(scratch), [PLAIN, CANARY, SHADOW]) as started,
    ):
        started[CANARY].start_release(PLAN)
        started[SHADOW].start_release({**PLAN, "shadow": {"share": 100}})
        samples = [
            {"rate": rate, "round": number, "gateway": name, **measured}
            for rate in options.rate
            for number, name, measured in _rounds(started, options.rounds, options.seconds, rate)
        ]
        shadow = started[SHADOW].status()["shadow"]
    told = {
        "when": now_utc(),
        "environment": environment,
        "plan": vars(options) | {"out": ""},
        "shadow": shadow,
        "samples": samples,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "releases-overhead.json").write_text(json.dumps(told) + "\n")
    text = _markdown(told)
    (options.out / "releases-overhead.md").write_text(text)
    print(text)


def _rounds(started: dict[str, RunningGateway], rounds: int, seconds: float, rate: float) -> list[Any]:
    order = list(started)
    shuffled = random.Random(7)
    found = []
    for name in order:
        _drive(started[name], WARM_UP_S, rate)
    for number in range(rounds):
        shuffled.shuffle(order)
        found += [(number, name, _drive(started[name], seconds, rate)) for name in order]
    return found


def _drive(gateway: RunningGateway, seconds: float, rate: float) -> dict[str, Any]:
    """Latencies in milliseconds of what stable answered, and how many requests failed."""
    image = one_row()
    latencies: list[float] = []
    errors = 0
    with connect(gateway.grpc) as client:
        began = time.perf_counter()
        for number in range(int(seconds * rate)):
            due = began + number / rate
            if (left := due - time.perf_counter() - SPIN_S) > 0:
                time.sleep(left)
            while time.perf_counter() < due:
                pass
            sent = time.perf_counter()
            try:
                reply = client.predict(MODEL, image, timeout_s=10.0)
            except Exception:  # whatever it is, it is counted: there must be none
                errors += 1
                continue
            if reply.parameters.get("release", "stable") == "stable":
                latencies.append((time.perf_counter() - sent) * 1e3)
    return {"latencies_ms": [round(value, 4) for value in latencies], "errors": errors}


def _markdown(told: dict[str, Any]) -> str:
    environment, plan = told["environment"], told["plan"]
    lines = [
        "# What an active release costs the stable path",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; Python "
        f"{environment['python']}; commit {environment['commit']}; {told['when']}. Load average before: "
        f"{environment['load_before'][0]}.",
        f"One digits row a request over gRPC, one at a time, at a fixed rate; {plan['rounds']} interleaved rounds of "
        f"{plan['seconds']:g} s each. Latency as the client sees it. Ratio: of the "
        "p50s of a round, its median over rounds with the 95 % interval.",
        "",
        "| requests/s | gateway | p50 ms | p99 ms | errors | p50 against no release | bar |",
        "|---:|---|---:|---:|---:|---|---|",
    ]
    for rate in plan["rate"]:
        base = _by_round(told, rate, PLAIN)
        for name in (PLAIN, CANARY, SHADOW):
            mine = _by_round(told, rate, name)
            pooled = sorted(value for one in mine.values() for value in one["latencies_ms"])
            errors = sum(one["errors"] for one in mine.values())
            shown, bar = "1", ""
            if name != PLAIN:
                ratio = against(*([one[n]["latencies_ms"] for n in sorted(base)] for one in (mine, base)))
                shown, bar = str(ratio), f"at most {1 + BAR:g}: {verdict(ratio, errors)}"
            lines.append(
                f"| {rate:g} | {name} | {median(pooled):.3f} | {pooled[int(len(pooled) * 0.99)]:.3f} | {errors} | {shown} | {bar} |"
            )
    shadow = told["shadow"]
    lines += [
        "",
        f"The shadow compared {shadow['compared']:,} answers and dropped {shadow['dropped']:,}; the twin agreed with stable in "
        f"{shadow['agreement']:.2%}, and stable with itself in {shadow['noise_floor']['agreement']:.2%}.",
    ]
    return "\n".join(lines) + "\n"


def _by_round(told: dict[str, Any], rate: float, name: str) -> dict[int, dict[str, Any]]:
    return {one["round"]: one for one in told["samples"] if one["rate"] == rate and one["gateway"] == name}


if __name__ == "__main__":
    main()
