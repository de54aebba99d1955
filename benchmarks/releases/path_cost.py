"""What an active release adds to a request inside the gateway: one event loop and engine, with and without a release, in turns.

    python -m benchmarks.releases.path_cost

Blocks of requests, one at a time: without a release, with a canary of 5 %, and with that and a shadow of everything that stable
answers. A block begins when the shadow has nothing left to do. The p50 of what stable answered, of many short blocks, stands some
noise; the wire, which costs several times as much as all of this, is left out: the share is the largest it can be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bar import counted
from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases.gateways import MODEL, make_twin, one_row
from benchmarks.releases.overhead import CANARY, PLAIN, SHADOW
from benchmarks.releases.paired import BAR, against, verdict
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.mirror import Mirror
from cloud_gateway.release.plan import check_plan
from cloud_gateway.release.service import ReleaseService
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.store import Release
from runtime.bundle.locate import open_bundles, shipped_bundles
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy
from runtime.serving.local_service import LocalService
from runtime.serving.server import run
from runtime.wire.values import InferenceRequest

PLAN = check_plan({"model": MODEL, "stable": 1, "candidate": 2, "shadow": {"share": 100}})


async def _measure(engine: Engine, blocks: int, requests: int, gap_s: float) -> dict[str, Any]:
    local = LocalService(engine)
    stable, candidate = engine.model(MODEL, "1"), engine.model(MODEL, "2")
    state = ReleaseState(Status.RUNNING, 0.05, 0)
    releases = {}
    for name in (CANARY, SHADOW):
        mirror = None if name == CANARY else Mirror(stable, candidate, 256, 20)
        releases[name] = ActiveRelease(Release(1, PLAN, state, {}, 0, 0), mirror=mirror)
    services = {name: (ReleaseService(local, traffic := Traffic()), traffic) for name in (PLAIN, CANARY, SHADOW)}
    for name, active in releases.items():
        services[name][1].active[MODEL] = active
    services[PLAIN][1].pins[MODEL] = "1"
    found: dict[str, list[list[float]]] = defaultdict(list)
    order, shuffled = list(services), random.Random(7)
    image, name_of_input = one_row(), stable.inputs[0].name
    number = 0
    for block in counted(range(blocks + 2), "block"):
        shuffled.shuffle(order)
        for name in order:
            service, latencies = services[name][0], []
            for _ in range(requests):
                number += 1
                request = InferenceRequest(MODEL, {name_of_input: image}, id=str(number))
                began = time.perf_counter_ns()
                reply = await service.infer(request)
                took = time.perf_counter_ns() - began
                if reply.parameters.get("release", "stable") == "stable":
                    latencies.append(took / 1e3)
                await asyncio.sleep(gap_s)
            if block >= 2:  # the first ones warm up
                found[name].append(latencies)
            for active in releases.values():
                is_busy = True
                while is_busy:
                    await asyncio.sleep(0.005)
                    is_busy = active.absorb(100) or (active.mirror is not None and active.mirror.waiting > 0)
    counts = releases[SHADOW].evidence.counts.shadow.describe()
    mirror = releases[SHADOW].mirror
    assert mirror is not None, "it has one"
    counts["dropped"] = mirror.dropped
    mirror.close()
    local.close()
    return {"samples_us": dict(found), "shadow": counts}


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=120)
    parser.add_argument("--requests", type=int, default=50, help="in a block")
    parser.add_argument("--gap-s", type=float, default=0.001, help="between requests")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    environment = read_environment()
    with tempfile.TemporaryDirectory(prefix="edgeward-path-") as scratch:
        folder = Path(scratch)
        engine = Engine(EngineSettings(versions=VersionPolicy(latest=None), home=folder / "home"))
        engine.load(shipped_bundles()[MODEL])
        engine.add(open_bundles(make_twin(folder), folder / "bundles")[0])
        served = {str(model.version): model.serving for model in engine.models()}
        measured = run(_measure(engine, options.blocks, options.requests, options.gap_s))
    told = {
        "when": now_utc(),
        "environment": environment,
        "plan": {"blocks": options.blocks, "requests": options.requests, "gap_s": options.gap_s},
        "served": served,
        **measured,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "releases-path-cost.json").write_text(json.dumps(told) + "\n")
    text = _markdown(told)
    (options.out / "releases-path-cost.md").write_text(text)
    print(text)


def _markdown(told: dict[str, Any]) -> str:
    environment, plan, samples = told["environment"], told["plan"], told["samples_us"]
    base = [median(block) for block in samples[PLAIN]]
    lines = [
        "# What an active release adds to a request inside the gateway",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; Python "
        f"{environment['python']}; commit {environment['commit']}; {told['when']}. Load average before: "
        f"{environment['load_before'][0]}.",
        f"One digits row a request, in process, one at a time with {plan['gap_s'] * 1e3:g} ms between them; {plan['blocks']} "
        f"interleaved blocks of {plan['requests']}; what stable answered. Served by {told['served']['1']}.",
        "",
        "| | p50, us | added, us | p50 against no release: median over blocks [95 % interval] | bar |",
        "|---|---:|---:|---|---|",
    ]
    for name in (PLAIN, CANARY, SHADOW):
        mine = [median(block) for block in samples[name]]
        shown, bar = "1", ""
        if name != PLAIN:
            ratio = against(samples[name], samples[PLAIN])
            shown, bar = str(ratio), f"at most {1 + BAR:g}: {verdict(ratio)}"
        lines.append(f"| {name} | {median(mine):.0f} | {median(mine) - median(base):+.0f} | {shown} | {bar} |")
    shadow = told["shadow"]
    lines += ["", f"The shadow compared {shadow['compared']:,} answers and dropped {shadow['dropped']:,}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
