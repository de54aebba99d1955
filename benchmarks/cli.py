"""`edgeward bench`: run, compare, calibrate and report on the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.arrivals import Arrivals
from benchmarks.scenarios import DEFAULT_DURATION_S, DEFAULT_TIMEOUT_S, DEFAULT_WARM_UP_S, Wishes, plan
from benchmarks.settings import AUTO, Setting
from runtime.errors import WrongUseError

if TYPE_CHECKING:
    from benchmarks.compare import Comparison
    from benchmarks.run import Cell

app = typer.Typer(
    help="How fast a model answers: latency and QPS on every target, raw samples kept.", no_args_is_help=True
)

# 128 + SIGINT, as shells count.
EXIT_INTERRUPTED = 130
# Shorter work needs no bar (a person waits two seconds without wondering).
BAR_AFTER_S = 2.0

Models = Annotated[str, typer.Option("--model", help="Names that ship, bundles or model files, with commas between.")]
Duration = Annotated[float, typer.Option("--duration", metavar="SECONDS", help="How long each measurement lasts.")]
Requests = Annotated[int | None, typer.Option("--requests", help="End each measurement after so many requests.")]
Rows = Annotated[int | None, typer.Option("--rows", help="Rows a request in multi (8) and offline (32).")]
InFlight = Annotated[
    int | None, typer.Option("--in-flight", help="Requests at once: offline (4), server at most (64).")
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--arrivals",
        help="Of server: poisson:RATE, constant:RATE, ramp:FROM-TO, step:RATE,RATE,... or trace:FILE (poisson:100).",
    ),
]
WarmUp = Annotated[float, typer.Option("--warm-up", metavar="SECONDS", help="Asked before, and not counted.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Deadline of one request.")]
Seed = Annotated[int, typer.Option("--seed", help="Of arrivals, order of rows, and random inputs.")]
KeyFile = Annotated[Path | None, typer.Option("--api-key-file", metavar="FILE", help="File with the server's API key.")]
Output = Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Where raw samples go.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print figures as JSON.")]
Threshold = Annotated[float, typer.Option("--threshold", help="Changes below this share are of no practical interest.")]


@app.command(epilog="Example: edgeward bench run --target inproc,grpc://127.0.0.1:8001 --scenario single,offline")
def run(
    model: Models = "digits",
    target: Annotated[
        str,
        typer.Option(
            "--target", help="inproc, agent, gateway, grpc://host:port, http://host:port or LABEL=..., commas between."
        ),
    ] = "inproc",
    scenario: Annotated[
        str, typer.Option("--scenario", help="single, multi, server, offline; commas.")
    ] = "single,offline",
    backend: Annotated[
        str, typer.Option("--backend", help="In process: auto (chosen), all, BACKEND or VARIANT@BACKEND/THREADS.")
    ] = AUTO,
    duration: Duration = DEFAULT_DURATION_S,
    requests: Requests = None,
    rows: Rows = None,
    in_flight: InFlight = None,
    arrivals: Rate = None,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    seed: Seed = 1,
    slo_ms: Annotated[
        float | None, typer.Option("--slo-ms", help="Count requests answered within this: goodput.")
    ] = None,
    api_key_file: KeyFile = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Measures every model on every target in every scenario, and prints one table; exit code 1 if anything is INVALID.

    Raw samples are saved below EDGEWARD_HOME/benchmarks unless --output says where. Ctrl-C keeps what was measured.
    """
    from benchmarks.run import default_folder, matrix, to_dict
    from benchmarks.run import run as run_cells
    from benchmarks.table import notes_of, row_of, table_of
    from runtime.cli.console import people, standard

    wishes = Wishes(duration, requests, rows, in_flight, _arrivals(arrivals), warm_up, timeout, seed)
    cells = matrix(_words(model), _words(target), _words(scenario), backend, wishes)
    with _bar(sum(cell.scenario.duration_s + cell.scenario.warm_up_s for cell in cells)) as tell:

        def progress(cell: Cell, number: int, count: int, share: float) -> None:
            tell(str(cell), (number + share) / count)

        result = run_cells(cells, output or default_folder(), progress, _key(api_key_file))
    if as_json:
        print(json.dumps(to_dict(result, slo_ms), indent=2, ensure_ascii=False))
    else:
        measured = [row_of(recording, slo_ms) for recording in result.recordings]
        if measured:
            environment = result.recordings[0].header["environment"]
            standard().print(table_of(measured))
            standard().print(
                f"{environment['cpu'] or 'processor unknown'}, kernel {environment['kernel']}, "
                f"Python {environment['python']}; latency from the planned send time",
                markup=False,
            )
        for note in notes_of(measured):
            people().print(note, style="yellow", markup=False)
        for failed in result.failed:
            people().print(f"not measured: {failed}", style="red", markup=False)
        standard().print(f"raw samples: {result.folder}", markup=False, soft_wrap=True)
    if result.was_stopped:
        people().print("stopped; what was measured is kept", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not result.is_valid:
        raise typer.Exit(1)


@app.command(epilog="Example: edgeward bench compare inproc@onnxruntime-cpu inproc@litert --scenario single")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A results folder, or TARGET or TARGET@BACKEND.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same for B, which is judged against A.")],
    model: Annotated[str, typer.Option("--model", help="For two targets: the model.")] = "digits",
    scenario: Annotated[str, typer.Option("--scenario", help="For two targets: which scenario.")] = "single",
    rounds: Annotated[int, typer.Option("--rounds", help="For two targets: rounds of A/B/B/A.")] = 5,
    duration: Duration = 1.0,
    requests: Requests = None,
    rows: Rows = None,
    in_flight: InFlight = None,
    arrivals: Rate = None,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    seed: Seed = 1,
    threshold: Threshold = 0.05,
    api_key_file: KeyFile = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Says whether B is faster, slower, equivalent, or that it cannot be told.

    Two folders of earlier runs are compared cell by cell. Two targets are measured now, A/B/B/A in fresh processes.
    """
    from benchmarks.compare import compare_recordings, compare_settings
    from benchmarks.samples import load_folder
    from runtime.cli.console import people

    if Path(a).is_dir() and Path(b).is_dir():
        comparisons, notes = compare_recordings(load_folder(Path(a)), load_folder(Path(b)), threshold)
        for note in notes:
            people().print(note, style="yellow", markup=False)
        people().print("measured at different times; compare two targets for an interleaved verdict", markup=False)
    else:
        wishes = Wishes(duration, requests, rows, in_flight, _arrivals(arrivals), warm_up, timeout, seed)
        chosen = plan(scenario, wishes)
        with _bar(4 * rounds * (chosen.duration_s + chosen.warm_up_s)) as tell:
            comparisons = compare_settings(
                _setting(model, a), _setting(model, b), chosen, rounds, threshold, tell, output, _key(api_key_file)
            )
    _show(comparisons, as_json)


@app.command(epilog="Example: edgeward bench calibrate inproc")
def calibrate(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="TARGET or TARGET@BACKEND.")] = "inproc",
    model: Annotated[str, typer.Option("--model", help="The model.")] = "digits",
    scenario: Annotated[str, typer.Option("--scenario", help="Which scenario.")] = "single",
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of A/A/A/A.")] = 5,
    duration: Duration = 1.0,
    api_key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Compares a target with itself: the smallest change that this machine can show."""
    from benchmarks.compare import compare_settings
    from benchmarks.statistics import percentile_name
    from runtime.cli.console import standard

    setting, chosen = _setting(model, target), plan(scenario, Wishes(duration_s=duration))
    with _bar(4 * rounds * (chosen.duration_s + chosen.warm_up_s)) as tell:
        comparisons = compare_settings(setting, setting, chosen, rounds, progress=tell, api_key=_key(api_key_file))
    _show(comparisons, as_json)
    if not as_json:
        for comparison in comparisons:
            quantile = percentile_name(comparison.share)
            standard().print(
                f"{quantile}: changes below {comparison.smallest_visible:.1%} do not show here", markup=False
            )


@app.command(epilog="Example: edgeward bench report ./results")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder of `bench run`.")],
    slo_ms: Annotated[
        float | None, typer.Option("--slo-ms", help="Count requests answered within this: goodput.")
    ] = None,
) -> None:
    """Writes report.html (one file, charts and raw data inside) and report.md (for a README) into DIR."""
    from benchmarks.report import to_html, to_markdown
    from benchmarks.samples import load_folder
    from runtime.cli.console import standard

    recordings = load_folder(folder)
    for name, text in (("report.html", to_html(recordings, slo_ms)), ("report.md", to_markdown(recordings, slo_ms))):
        (folder / name).write_text(text, encoding="utf-8")
        standard().print(str(folder / name), markup=False, soft_wrap=True)


def _show(comparisons: list[Comparison], as_json: bool) -> None:
    if not comparisons:
        raise WrongUseError("too few samples for any quantile; measure longer (--duration) or more (--requests)")
    if as_json:
        print(json.dumps([comparison.to_dict() for comparison in comparisons], indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    from benchmarks.statistics import percentile_name
    from runtime.cli.console import standard

    table = Table("what", "quantile", "A ms", "B ms", "B / A [95 %]", "p", "verdict")
    for c in comparisons:
        figures = (f"{c.a_ms:.3f}", f"{c.b_ms:.3f}", str(c.ratio).replace("[", r"\["), f"{c.p_value:.2g}")
        table.add_row(c.what, percentile_name(c.share), *figures, c.judgement.verdict.value)
    standard().print(table)
    for c in comparisons:
        standard().print(
            f"{c.judgement.verdict}: {c.what}, {percentile_name(c.share)}: {c.judgement.reason}", markup=False
        )


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise WrongUseError(f"{text!r} names nothing; give one or more, with commas between")
    return words


def _setting(model: str, text: str) -> Setting:
    target, _, backend = text.partition("@")
    return Setting(model, target, backend or AUTO)


def _arrivals(text: str | None) -> Arrivals | None:
    return None if text is None else Arrivals.parse(text)


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise WrongUseError(f"API key file {file} cannot be read: {error.strerror}; check the path") from error


class _Teller:
    """Moves a bar, once work has gone on for two seconds and a person watches."""

    def __init__(self, expected_s: float) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from runtime.cli.console import people

        console = people()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("measuring", total=1.0)
        self._after = time.monotonic() + (0.0 if expected_s > BAR_AFTER_S else BAR_AFTER_S)
        self._is_shown = False

    def __call__(self, what: str, share: float) -> None:
        if not self._is_shown and time.monotonic() >= self._after:
            self._progress.start()
            self._is_shown = True
        self._progress.update(self._task, description=what, completed=share)

    def close(self) -> None:
        if self._is_shown:
            self._progress.stop()


@contextmanager
def _bar(expected_s: float) -> Iterator[_Teller]:
    teller = _Teller(expected_s)
    try:
        yield teller
    finally:
        teller.close()
