"""What an active release costs the requests that stable answers: a canary, and a canary with a shadow of all of them.

    python -m benchmarks.releases.overhead

One gateway, whose release is switched: without, without once more (what this machine cannot tell from nothing), with a canary of
5 %, and with that and a shadow of everything that stable answers; both of these are held against both turns without. In every
round each has a short turn, in a new order, over one connection; requests come one at a time, at a fixed rate. The candidate's
answers are left out: it is what stable's callers wait for. A turn is five times as long as the shadow gathers, so that it has its
part of what the shadow does meanwhile. Ten minutes of a machine that does nothing else; shorter turns stand other programs' load
better, and leave most of the shadow's work to the pauses.
`path_cost` measures the same inside one process.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals
from statistics import median
from typing import Any, Final

from benchmarks.bar import counted
from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases import switched_gateway
from benchmarks.releases.gateways import MODEL, RunningGateway, gateways, one_row
from benchmarks.releases.paired import BAR, against, verdict
from runtime.client import connect
from runtime.client.sync import Client

PLAIN, AGAIN, CANARY, SHADOW = "no release", "no release, again", "canary 5 %", "canary 5 % and shadow 100 %"
ARMS: Final[dict[str, Signals]] = {
    PLAIN: switched_gateway.PLAIN,
    AGAIN: switched_gateway.PLAIN,
    CANARY: switched_gateway.CANARY,
    SHADOW: switched_gateway.SHADOW,
}
# A guard that nobody can satisfy soon, so that the release stays where it is while it is measured.
PLAN: dict[str, Any] = {
    "stages": [5, 100],
    "hold_s": 3600,
    "promote_by_hand": True,
    "shadow": {"share": 100},
}
# Of the machine's wake-ups: below that a sleep ends late, and the client spins.
SPIN_S = 0.0005
# Requests of a turn before those that count, and how long the shadow has for its last answers after them: it gathers for 0.1 s.
FIRST = 5
SETTLE_S = 0.15
WARM_UP_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Turn:
    """One arm's."""

    rate: float
    round: int
    arm: str
    latencies_ms: list[float]
    """Of what stable answered."""
    errors: int
    cpu_s: float
    """Of the gateway's process, with what the guards did of an earlier turn's requests."""


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs="+", default=[100], help="one number, or one for each rate")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn")
    parser.add_argument("--rate", type=float, nargs="+", default=[100.0, 300.0], help="requests a second")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if len(options.rounds) == 1:
        options.rounds *= len(options.rate)
    if len(options.rounds) != len(options.rate):
        parser.error(
            f"--rounds has {len(options.rounds)} numbers for {len(options.rate)} rates; give one, or one for each"
        )
    environment = read_environment()
    module = switched_gateway.__name__
    with (
        tempfile.TemporaryDirectory(prefix="edgeward-overhead-") as scratch,
        gateways(Path(scratch), [MODEL], module=module) as started,
        connect(started[MODEL].grpc) as client,
    ):
        gateway = started[MODEL]
        gateway.start_release(PLAN)
        turns = [
            turn
            for rate, rounds in zip(options.rate, options.rounds, strict=True)
            for turn in _rounds(gateway, client, rounds, options.seconds, rate)
        ]
        gateway.process.signal(ARMS[SHADOW])
        shadow = gateway.status()["shadow"]
    told = {
        "when": now_utc(),
        "environment": environment,
        "plan": vars(options) | {"out": ""},
        "shadow": shadow,
        "samples": [asdict(turn) for turn in turns],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "releases-overhead.json").write_text(json.dumps(told) + "\n")
    text = _markdown(told, turns)
    (options.out / "releases-overhead.md").write_text(text)
    print(text)


def _rounds(gateway: RunningGateway, client: Client, rounds: int, seconds: float, rate: float) -> Iterator[Turn]:
    order, shuffled = list(ARMS), random.Random(7)
    for number in counted(range(-WARM_UP_ROUNDS, rounds), f"{rate:g}/s, round"):
        shuffled.shuffle(order)
        for arm in order:
            gateway.process.signal(ARMS[arm])
            before = gateway.process.cpu_s()
            latencies, errors = _drive(client, seconds, rate, has_release=arm not in (PLAIN, AGAIN))
            time.sleep(SETTLE_S)
            if number >= 0:
                yield Turn(rate, number, arm, latencies, errors, gateway.process.cpu_s() - before)


def _drive(client: Client, seconds: float, rate: float, *, has_release: bool) -> tuple[list[float], int]:
    """Latencies in milliseconds of what stable answered, and how many requests failed."""
    image = one_row()
    latencies: list[float] = []
    errors = 0
    began = time.perf_counter()
    for number in range(FIRST + int(seconds * rate)):
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
        took_ms = (time.perf_counter() - sent) * 1e3
        said = reply.parameters.get("release")
        if number < FIRST:
            continue
        assert (said is not None) == has_release, f"the gateway was switched, and its reply says release {said!r}"
        if said != "candidate":
            latencies.append(took_ms)
    return [round(value, 4) for value in latencies], errors


def _markdown(told: dict[str, Any], turns: Sequence[Turn]) -> str:
    environment, plan = told["environment"], told["plan"]
    lines = [
        "# What an active release costs the stable path",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; Python "
        f"{environment['python']}; commit {environment['commit']}; {told['when']}. Load average before: "
        f"{environment['load_before'][0]}.",
        f"One digits row a request over gRPC, one at a time, at a fixed rate, to one gateway whose release is switched; "
        f"{' and '.join(map(str, plan['rounds']))} interleaved rounds of {plan['seconds']:g} s a turn. Latency as the client sees "
        "it. Ratio: of a turn's p50 to that of both turns of its round without a release, its median over rounds with the 95 % "
        "interval; `again`: one of those two to the other, what this machine cannot tell from nothing. CPU is "
        "the whole process's, over a turn and its pause: the engine's threads, which wait by spinning, the loop that decides and "
        "saves, and the shadow's runs of the candidate. Guards take what a turn showed at the next tick that sees a release (every "
        "0.2 s), so part of a shadow's turn is paid in a canary's.",
        "",
        "| requests/s | gateway | p50 ms | p99 ms | its CPU ms for 1,000 requests | errors | p50 against no release | bar |",
        "|---:|---|---:|---:|---:|---:|---|---|",
    ]
    for rate, rounds in zip(plan["rate"], plan["rounds"], strict=True):
        plain = [one.latencies_ms for one in _of(turns, rate, PLAIN)]
        again = [one.latencies_ms for one in _of(turns, rate, AGAIN)]
        both = [[*one, *other] for one, other in zip(plain, again, strict=True)]
        for arm in ARMS:
            mine = _of(turns, rate, arm)
            pooled = sorted(value for one in mine for value in one.latencies_ms)
            errors = sum(one.errors for one in mine)
            asked = rounds * (FIRST + int(plan["seconds"] * rate))
            shown, bar = "1", ""
            if arm != PLAIN:
                ratio = against([one.latencies_ms for one in mine], plain if arm == AGAIN else both)
                shown, bar = str(ratio), "" if arm == AGAIN else f"at most {1 + BAR:g}: {verdict(ratio, errors)}"
            lines.append(
                f"| {rate:g} | {arm} | {median(pooled):.3f} | {pooled[int(len(pooled) * 0.99)]:.3f} | "
                f"{sum(one.cpu_s for one in mine) / asked * 1e6:.0f} | {errors} | {shown} | {bar} |"
            )
    shadow = told["shadow"]
    lines += [
        "",
        f"The shadow compared {shadow['compared']:,} answers and dropped {shadow['dropped']:,}; the twin agreed with stable in "
        f"{shadow['agreement']:.2%}, and stable with itself in {shadow['noise_floor']['agreement']:.2%}.",
    ]
    return "\n".join(lines) + "\n"


def _of(turns: Sequence[Turn], rate: float, arm: str) -> list[Turn]:
    return sorted((one for one in turns if one.rate == rate and one.arm == arm), key=lambda one: one.round)


if __name__ == "__main__":
    main()
