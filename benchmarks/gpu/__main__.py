"""Measures every model on the GPU and writes `gpu-DATE.json` and `.md`; prints the ratios that decide what is worth having."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.gpu.models import BUILDERS, QUICK, Files, MissingError
from benchmarks.gpu.results import BATCHES, Sheet, markdown, summary
from runtime import config

MINUTES: Final = 4.0
GRACE_S: Final = 20.0
"""For a process to start, and to end its last call, beyond the time it was given."""
LEAST_S: Final = 5.0
"""With less a model is not begun."""
WEIGHTS: Final = {"resnet-50": 3.0, "mobilenet-v2": 1.9, "resnet-18": 1.5}
"""Of the time; the others have 1. The more convolutions, the longer kernels are searched for when a shape is first seen."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever was skipped: it is information."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"only {' and '.join(QUICK)}")
    parser.add_argument("--only", action="append", choices=list(BUILDERS), help="this model alone; may be given again")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all; what was measured by then is written")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where models are built, once")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    chosen = parser.parse_args(arguments)
    end = time.monotonic() + 60 * chosen.minutes
    started, environment = now_utc(), read_environment()
    folder = chosen.models or config.home() / "benchmarks" / "gpu"
    names = chosen.only or (QUICK if chosen.quick else list(BUILDERS))
    chosen.output.mkdir(parents=True, exist_ok=True)
    stem = f"gpu-{started[:10]}{'-quick' if chosen.quick else ''}"
    for name, text in environment["hardware_text"].items():
        if "gpu" in name.lower():
            print(f"{name}: {text}", flush=True)
    prepare_all(names, folder, end)
    sheets: dict[str, Sheet] = {}
    for at, name in enumerate(names):
        left_s = end - time.monotonic()
        share = WEIGHTS.get(name, 1.0) / sum(WEIGHTS.get(later, 1.0) for later in names[at:])
        sheets[name] = measure(name, folder / name, left_s * share)
        print(summary(name, sheets[name]), flush=True)
        raw = {
            "started": started,
            "environment": environment,
            "models": {name: sheet.to_dict() for name, sheet in sheets.items()},
        }
        text = json.dumps(raw, indent=1, ensure_ascii=False)
        for hidden, shown in ((str(folder), "MODELS"), (str(ROOT), "ROOT")):
            text = text.replace(hidden, shown)
        (chosen.output / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
        page = markdown(sheets, environment, started).replace(str(folder), "MODELS").replace(str(ROOT), "ROOT")
        (chosen.output / f"{stem}.md").write_text(page, encoding="utf-8")
    print(f"tables: {chosen.output / stem}.md, all turns: {stem}.json")
    return 0


def prepare_all(names: Sequence[str], folder: Path, end: float) -> None:
    """The files of all models, side by side as far as there are cores; a process that is not done in time is ended."""
    at_once = max(1, (os.cpu_count() or 1) // 2)
    waiting, running = list(names), list[tuple[str, subprocess.Popen[bytes]]]()
    while (waiting or running) and time.monotonic() < end:
        while waiting and len(running) < at_once:
            name = waiting.pop(0)
            command = [sys.executable, "-m", "benchmarks.gpu.models", name, str(folder / name)]
            running.append((name, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)))
        running = [(name, process) for name, process in running if process.poll() is None]
        time.sleep(0.05)
    for _, process in running:
        process.kill()
        process.wait()


def measure(name: str, folder: Path, seconds: float) -> Sheet:
    """One model, within `seconds`; a way that ends its process is left out, and the others are begun again."""
    end = time.monotonic() + seconds
    target = folder / "sheet.json"
    target.unlink(missing_ok=True)
    sheet = Sheet()
    try:
        Files(folder).path("fp32.onnx")
    except MissingError as error:
        return Sheet(skipped={"all": str(error)})
    while (left_s := end - time.monotonic()) > LEAST_S:
        # The process starts, and ends its last call, within its time.
        command = [sys.executable, "-m", "benchmarks.gpu.one", str(folder), str(target), str(0.9 * left_s)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=left_s + GRACE_S, check=False
            )
            ending = "" if done.returncode == 0 else f"its process ended with {done.returncode}: {done.stderr[-300:]}"
        except subprocess.TimeoutExpired:
            ending = f"its process did not end within {left_s + GRACE_S:.0f} s"
        if target.is_file():
            sheet = Sheet.from_dict(json.loads(target.read_text(encoding="utf-8")))
        if not ending:
            return sheet
        blamed = sheet.doing or "all"
        sheet.skipped[blamed] = " ".join(ending.split())
        if blamed in ("all", "switching", *(f"{rows} rows" for rows in BATCHES)):
            return sheet
        target.write_text(json.dumps(sheet.to_dict()), encoding="utf-8")
    if not sheet.lines:
        sheet.skipped.setdefault("all", "no time was left")
    return sheet


if __name__ == "__main__":
    sys.exit(main())
