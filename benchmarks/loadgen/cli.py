"""`edgeward bench loadgen` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loadgen.plan import Rules
from benchmarks.scenarios import Kind, kind_of
from benchmarks.settings import Access, Setting

if TYPE_CHECKING:
    from benchmarks.loadgen.result import Result
    from benchmarks.loadgen.run import LoadgenRun, Progress

INSTALL = "pip install 'edgeward[loadgen]' (wheels: Linux x86-64, Windows x86-64, macOS arm64, Python 3.11 to 3.13)"


def kinds_of(words: list[str]) -> list[Kind]:
    """The scenarios by name; `WrongUseError` for another one."""
    return [kind_of(word) for word in words]


def measure(
    settings: list[Setting],
    kinds: list[Kind],
    rules: Rules,
    folder: Path,
    accuracy: bool,
    tell: Progress,
    access: Access,
) -> LoadgenRun:
    """Runs LoadGen; says on standard error when our own generator has to stand in."""
    from benchmarks.loadgen.run import is_installed, run_loadgen
    from runtime.cli.console import people

    if not is_installed():
        people().print(
            f"mlcommons-loadgen is not installed, our own generator follows its rules; {INSTALL}", markup=False
        )
    return run_loadgen(settings, kinds, rules, folder, accuracy=accuracy, progress=tell, access=access)


def show(run: LoadgenRun, as_json: bool) -> None:
    """LoadGen's own words, one block a scenario; or JSON."""
    from runtime.cli.console import people, standard

    if as_json:
        print(json.dumps(run.to_dict(), indent=2, ensure_ascii=False))
    else:
        for result in run.results:
            standard().print(
                f"\n{result.setting}, {result.kind.shape.loadgen_name}, {result.backend}", style="bold", markup=False
            )
            standard().print(result.summary.text, markup=False)
            standard().print(_accuracy(result), markup=False)
            standard().print(result.wording, markup=False)
            if result.errors:
                counted = ", ".join(f"{name} {count:,}" for name, count in result.errors.items())
                people().print(
                    f"not to be believed: LoadGen counts failed requests as answers ({counted})",
                    style="red",
                    markup=False,
                )
        standard().print(f"logs: {run.folder}", markup=False, soft_wrap=True)
    for sentence in run.failed:
        people().print(f"not measured: {sentence}", style="red", markup=False)


def _accuracy(result: Result) -> str:
    if result.accuracy is None:
        return f"accuracy not known: {result.no_accuracy}"
    return f"accuracy mode: {result.accuracy:.2%} of the bundle's labelled samples are right"
