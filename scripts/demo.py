"""The demo: a gateway and an agent as real processes, 450 held-out digits three times, two accidents, one table of speeds.

Started by `scripts/demo`, which makes the environment. Ends with 0 only when nothing was lost and nothing was wrong.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.client import connect
from runtime.errors import EdgewardError
from scripts.demo_oracle import TOLERANCE, Oracle
from scripts.demo_programs import ProgramError, Programs

MODEL = "digits"
INPUT, OUTPUT = "image", "probabilities"
# As the agent says it of a gateway that is gone, at the first request and while its breaker keeps from asking again.
UNREACHED = re.compile(r"unreachable|breaker is open")
# In a file or pipe, where rich would take 80 columns.
PIPED_WIDTH = 130

console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


@dataclass
class Pass:
    """What became of one pass over the images."""

    latencies_ms: list[float] = field(default_factory=list)
    served_by: Counter[str] = field(default_factory=Counter)
    correct: int = 0
    wrong: int = 0
    """Answers that differ from the straight run of the variant that served them."""
    errors: list[str] = field(default_factory=list)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The parameters of the first reply, by who served it and whether it gave a reason."""
    unreached: list[dict[str, Any]] = field(default_factory=list)
    """Those of replies after the accident whose reason is that the gateway cannot be reached; a hedge is another reason."""

    @property
    def sent(self) -> int:
        """Requests sent."""
        return len(self.latencies_ms)


@dataclass(frozen=True)
class Digits:
    """The held-out images, what they show, and what every variant says of them."""

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    oracle: Oracle
    variant_of: dict[str, str]
    """By the `backend` of a reply."""


def main() -> int:
    """The whole demo; the exit code."""
    started = time.monotonic()
    for kind in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, _interrupt)
    with tempfile.TemporaryDirectory(prefix="edgeward-demo-") as folder:
        # A home of its own: the calibration is made and shown here, and nothing of yours is touched.
        home = Path(folder) / "home"
        os.environ["EDGEWARD_HOME"] = str(home)
        try:
            with Programs(Path(folder), {"EDGEWARD_HOME": str(home)}) as programs:
                passes = _tell(programs, Path(folder) / "drill", home)
        except (EdgewardError, ProgramError) as error:
            console.print(Text(f"demo: {error}", style="red"))
            return 1
        except KeyboardInterrupt:
            console.print("\ninterrupted: everything that was started is stopped")
            return 130
    failed, wrong = sum(len(p.errors) for p in passes), sum(p.wrong for p in passes)
    for text in [text for p in passes for text in p.errors][:5]:
        console.print(Text(f"failed: {text}", style="red"))
    verdict = (
        Text("nothing lost, nothing wrong", style="green")
        if not failed + wrong
        else Text("something went wrong", style="red")
    )
    console.print()
    console.print(
        Text.assemble(
            ("Done", "bold"), f" in {time.monotonic() - started:.0f} s: ", verdict, "; everything is stopped."
        )
    )
    return 1 if failed + wrong else 0


def _tell(programs: Programs, drill: Path, home: Path) -> list[Pass]:
    """The story; the passes as they went."""
    digits = _choose(home)

    _heading("2  A gateway and an agent, two processes on this machine")
    gateway = programs.start("gateway", ["gateway", "run", MODEL, "--grpc-port", "0", "--http-port", "0"])
    ports = ["--grpc-port", gateway.grpc.rpartition(":")[2], "--http-port", gateway.http.rpartition(":")[2]]
    agent = programs.start("agent", [*_agent(gateway.grpc), "--drill-file", str(drill)])
    for program in (gateway, agent):
        console.print(f"{program.name:8} gRPC {program.grpc}   REST {program.http}   (process {program.process.pid})")

    _heading(f"3  {len(digits.images)} held-out images, one at a time, through the agent's gRPC")
    first = _run_pass(agent.grpc, digits)
    share = first.correct / max(first.sent - len(first.errors), 1)
    console.print(
        f"accuracy {share:.2%}   p50 {_quantile(first, 50)}   p95 {_quantile(first, 95)}   served by {_who(first)}"
    )

    _heading("4  Two accidents")
    half = len(digits.images) // 2
    console.print(f"second pass: at image {half} the local model fails (a drill)")
    second = _run_pass(agent.grpc, digits, at=half, accident=lambda: _write(drill))
    drill.unlink()
    _show_reply(second.told.get("cloud, with a reason"))
    # An agent that asks the cloud first, so that the gateway is in use when it dies.
    # One folder, one agent: the second has its own, with what was measured for the first.
    other = home.with_name("other-home")
    shutil.copytree(home / "calibrations", other / "calibrations")
    words = [*_agent(gateway.grpc), "--policy", "cloud_first"]
    eager = programs.start("agent-cloud-first", words, EDGEWARD_HOME=str(other))
    console.print(
        f"third pass, with an agent that asks the cloud first: at image {half} the gateway is killed (SIGKILL)"
    )
    third = _run_pass(eager.grpc, digits, at=half, accident=gateway.kill)
    _show_reply(third.unreached[0] if third.unreached else None)
    console.print(
        f"  {len(third.unreached)} of the {third.sent - half} requests after it say that the gateway cannot be reached"
    )
    passes = [first, second, third]
    console.print(_account(passes))
    console.print(
        "wrong: not the digit, or further off than "
        f"{TOLERANCE:g}, of a straight session.run (LiteRT: invoke) of the variant that served",
        style="dim",
    )
    eager.kill()

    _heading("5  How fast")
    gateway = programs.start("gateway", ["gateway", "run", MODEL, *ports, "--admin-port", "0"])
    _show_speeds(agent.grpc, agent.http, gateway.grpc)
    return passes


def _choose(home: Path) -> Digits:
    """What the probe sees and what is chosen, shown; and the images with their oracle."""
    from runtime.backends.registry import all_backends
    from runtime.bundle.locate import open_bundles
    from runtime.cli.choice_tables import show_choice
    from runtime.cli.console import facts
    from runtime.hardware import describe, probe
    from runtime.selection.select import choose
    from runtime.selection.settings import Objective, SelectionSettings

    _heading("1  This machine, and what runs best on it")
    hardware = probe()
    wanted = {"system", "processor", "cores allowed", "memory allowed", "NVIDIA GPU", "NPU"}
    console.print(facts((name, value) for name, value in describe(hardware) if name in wanted))
    console.print()
    bundle = open_bundles(MODEL, home / "bundles")[0]
    as_served = SelectionSettings(usual_objective=Objective.EFFICIENCY)  # so that gateway and agent find it measured
    with console.status("measuring every variant on every engine here …"):
        choice = choose(bundle, hardware, all_backends(), as_served, home / "calibrations", None)
    console.print(show_choice(choice, with_rejected=False))
    samples = bundle.samples()
    assert samples is not None, "the digits bundle carries samples"
    assert samples.labels is not None, "the digits bundle carries labels"
    images = samples.inputs[INPUT]
    oracle = Oracle(bundle.root, {v.name: v.file for v in bundle.variants}, images)
    variant_of = {str(ranked.candidate): ranked.candidate.variant.name for ranked in choice.ranked}
    return Digits(images, samples.labels, oracle, variant_of)


def _agent(gateway: str) -> list[str]:
    return ["agent", "run", MODEL, "--gateway", gateway, "--grpc-port", "0", "--http-port", "0"]


def _run_pass(address: str, digits: Digits, at: int | None = None, accident: Callable[[], None] | None = None) -> Pass:
    """Every image once, one after the other; before image `at` the accident happens."""
    seen = Pass()
    with connect(address) as client:
        for row in range(len(digits.images)):
            if row == at and accident is not None:
                accident()
            started = time.perf_counter()
            try:
                reply = client.predict(MODEL, {INPUT: digits.images[row : row + 1]})
            except EdgewardError as error:
                seen.errors.append(f"image {row}: {error}")
                continue
            finally:
                seen.latencies_ms.append((time.perf_counter() - started) * 1e3)
            said = dict(reply.parameters)
            who = str(said["served_by"])
            seen.served_by[who] += 1
            if at is not None and row >= at and UNREACHED.search(str(said.get("reason", ""))):
                seen.unreached.append(said)
            seen.told.setdefault(f"{who}, with a reason" if "reason" in said else who, said)
            answer = reply.outputs[OUTPUT][0]
            seen.correct += int(answer.argmax() == digits.labels[row])
            seen.wrong += not digits.oracle.is_right(digits.variant_of[str(said["backend"])], row, answer)
    return seen


def _write(drill: Path) -> None:
    drill.write_text("the local model is made to fail by scripts/demo", encoding="utf-8")


def _show_reply(parameters: dict[str, Any] | None) -> None:
    if parameters is None:
        console.print(Text("  no reply gave a reason", style="red"))
        return
    for name in ("served_by", "backend", "reason"):
        console.print(Text.assemble((f"  {name}: ", "cyan"), str(parameters.get(name, ""))))


def _account(passes: list[Pass]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("sent", "by edge", "by cloud", "failed", "wrong answers"):
        table.add_column(name, justify="right")
    rows = [
        ("first pass", [passes[0]]),
        ("second: local model fails", [passes[1]]),
        ("third: gateway killed", [passes[2]]),
        ("together", passes),
    ]
    for name, some in rows:
        served = sum((p.served_by for p in some), Counter[str]())
        failed, wrong = sum(len(p.errors) for p in some), sum(p.wrong for p in some)
        numbers = [sum(p.sent for p in some), served["edge"], served["cloud"]]
        table.add_row(
            name, *map(str, numbers), *(_zero(n) for n in (failed, wrong)), style="bold" if name == "together" else None
        )
    return table


def _zero(number: int) -> Text:
    return Text(str(number), style="red" if number else "green")


def _show_speeds(agent_grpc: str, agent_http: str, gateway_grpc: str) -> None:
    from benchmarks.run import QUICK_IN_FLIGHT, run_quick

    targets = [
        "in-process=inproc",
        f"agent gRPC=grpc://{agent_grpc}",
        f"agent REST={agent_http}",
        f"gateway gRPC=grpc://{gateway_grpc}",
    ]
    with console.status("measuring …") as status:
        rows = run_quick(targets, MODEL, progress=lambda label: status.update(f"measuring {label} …"))
    table = Table(box=None, pad_edge=False)
    table.add_column("one image a request")
    for name in ("p50 ms", "p95 ms", "p99 ms", f"QPS, {QUICK_IN_FLIGHT} in flight", "failed"):
        table.add_column(name, justify="right")
    for row in rows:
        times = ("–" if ms is None else f"{ms:.3f}" for ms in (row.p50_ms, row.p95_ms, row.p99_ms))
        table.add_row(row.label, *times, f"{'≥ ' if row.is_least else ''}{row.qps:,.0f}", _zero(row.failed))
    console.print(table)
    for row in rows:
        if row.invalid_reason is not None:
            console.print(Text(f"{row.label}: {row.invalid_reason}", style="yellow"))


def _heading(text: str) -> None:
    console.print()
    console.rule(Text(text, style="bold"), align="left", style="dim")


def _who(seen: Pass) -> str:
    return ", ".join(f"{who} {count}" for who, count in sorted(seen.served_by.items()))


def _quantile(seen: Pass, percent: int) -> str:
    return f"{np.percentile(seen.latencies_ms, percent):.2f} ms"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
