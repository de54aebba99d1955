"""What a run of the benchmark says to people, in Markdown that fits a page: no line of text is longer than `WIDTH`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.selection.results import SAME_MACHINE, Result, bars

WIDTH: Final = 100
QUIET_LOAD: Final = 0.5
"""Of a core: with more wanted by others before the run, turns are cut short by them."""


LEGEND: Final = (
    "Each model was calibrated once, as a first load does it. **Regret**: how much slower the chosen candidate is than the best of "
    "all that may run, each measured long, and then the two against each other in pairs. **Gain**: how many times as fast one row "
    "is as with `onnxruntime.InferenceSession(file)` and its defaults, for the chosen variant and for `Model.predict` on it, which "
    "checks, counts and watches; – where there is no ONNX file. **Start**: a warm-cache `edgeward.load`, in a process that has "
    "loaded the model before, more than two seconds after its choice was kept, "
    "against a session of the bare engine of the same file with the same options, neither with a call "
    "(† of an engine whose opening is not written down here, against the session that a load opens); "
    "**idle before**: each load and session after 50 ms in which nothing ran, where what it needs has left the processor's caches; "
    "**first answer**: as start with one row after it, against the session that a load opens. Medians of interleaved "
    "pairs. The bundles are made by `edgeward bundle build`'s own recipes."
)


def markdown(
    results: Sequence[Result],
    skipped: dict[str, str],
    failed: dict[str, str],
    environment: dict[str, Any],
    started: str,
) -> str:
    """Which bars are held, then the figures by model, then what the bundles consist of; with the hardware."""
    lines = ["# Selection", "", *_wrapped(_where(environment, started)), "", *_wrapped(LEGEND), "", "## Bars", ""]
    lines += [_item(f"{'held' if is_held else '**missed**'}: {text}") for text, is_held in bars(results)]
    lines += [_item(f"**failed**: {name} ({reason})") for name, reason in failed.items()]
    lines += [_item(text) for text in _doubts(results, environment)]
    lines += [_item(f"skipped: {name} ({reason})") for name, reason in skipped.items()]
    lines += ["", "## Choices", "", *_choices(results), "", "## Starts and calibrations", "", *_starts(results)]
    lines += ["", "## Bundles", "", *_bundles(results)]
    return "\n".join(lines) + "\n"


def _where(environment: Mapping[str, Any], started: str) -> str:
    libraries = environment["libraries"]
    names = ("onnxruntime", "openvino", "ai-edge-litert", "torch", "numpy")
    versions = ", ".join(f"{name} {libraries[name]}" for name in names if name in libraries)
    return (
        f"{started}, commit {environment['commit'][:12]}. {environment['cpu']} with "
        f"{environment['hardware_text']['instruction sets']}, cores allowed: "
        f"{environment['hardware_text']['cores allowed']}; kernel {environment['kernel']}, Python {environment['python']}, "
        f"{versions}; load before {', '.join(map(str, environment['load_before']))}."
    )


def _doubts(results: Sequence[Result], environment: Mapping[str, Any]) -> list[str]:
    """What else ran on the machine, where that matters."""
    found = []
    load = max(environment["load_before"] + (environment.get("load_after") or []))
    cores = environment["hardware"]["cores"]["threads"]
    if load > QUIET_LOAD * cores:
        found.append(
            f"**loaded machine**: up to {load:g} programs wanted its {cores} cores (load average before and after), so pairs of "
            "short calls measure the scheduler as much as the engines; a bar that is missed here may be held on a quiet one, and "
            "the other way round"
        )
    unstable = [r.name for r in results if any("unstable" in warning for warning in r.warnings)]
    if unstable:
        found.append(
            f"the machine was unstable while these were calibrated: {', '.join(unstable)}; "
            "other programs ran beside them, so their figures are of a loaded machine"
        )
    changed = f"what was chosen took over {SAME_MACHINE:g} times as long, or as short, afterwards as in its calibration"
    again = [f"{r.name} ({r.tries} times)" for r in results if r.tries > 1 and r.is_steady]
    if again:
        found.append(f"{changed}, so that all of the model was measured anew: {', '.join(again)}")
    restless = [f"{r.name} ({r.tries} times)" for r in results if not r.is_steady]
    if restless:
        found.append(
            f"{changed} each time it was measured: {', '.join(restless)}; the figures compare moments of the machine"
        )
    return found


def _choices(results: Sequence[Result]) -> list[str]:
    """A line a model; the best one, where it is another than the chosen, in a list below."""
    lines = ["| model | chosen | of | regret | gain | of `predict` |", "|---|---|---:|---:|---:|---:|"]
    for r in results:
        gain, whole = ("–" if value is None else f"{value:.2f} ×" for value in (r.gain, r.whole_gain))
        lines.append(f"| {r.name} | {r.chosen} | {r.candidates} | {r.regret:.1%} | {gain} | {whole} |")
    others = [_item(f"best of {r.name}: {r.best}") for r in results if r.best != r.chosen]
    return [*lines, "", *others] if others else lines


def _starts(results: Sequence[Result]) -> list[str]:
    """What a warm load takes, and what the calibration before it took of its budget (trials and rounds) and beside it."""
    lines = [
        "| model | start | beside it | idle before | first answer | calibration | trials | engines loaded |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        cold = "–" if r.cold_start is None else f"{r.cold_start:.2f} ×"
        mark = "" if r.is_start_bare else " †"
        lines.append(
            f"| {r.name} | {r.start:.2f} ×{mark} | {r.start_extra_ms:.2f} ms | {cold} | {r.first:.2f} × | {r.calibration_s:.1f} s "
            f"| {r.trial_s:.1f} s | {r.loading_s:.1f} s |"
        )
    return lines


def _bundles(results: Sequence[Result]) -> list[str]:
    """The variants of each, and every reason for those that are not there once, with whom it keeps from what."""
    left_out: dict[str, dict[str, list[str]]] = {}
    """By reason, the models by the variants that they lack for it."""
    for r in results:
        for reason in dict.fromkeys(r.left_out.values()):
            lacking = ", ".join(variant for variant, why in r.left_out.items() if why == reason)
            left_out.setdefault(reason, {}).setdefault(lacking, []).append(r.name)
    lines = [_item(f"{r.name}: {', '.join(r.variants)}") for r in results]
    if left_out:
        lines += ["", "Left out by the build:", ""]
    for reason, models in left_out.items():
        whose = "; ".join(f"{lacking} of {', '.join(names)}" for lacking, names in models.items())
        lines.append(_item(f"{whose}: {reason}"))
    return lines


def _item(text: str) -> str:
    return "\n".join(_wrapped(text, "- ", "  "))


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
