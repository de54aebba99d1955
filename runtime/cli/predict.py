"""`edgeward predict BUNDLE INPUT -o OUTPUT`: a file of rows through a model, in batches, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import EdgewardError
from runtime.row_files.opening import SUFFIXES, check_input, check_output
from runtime.selection.settings import Objective, SelectionSettings

if TYPE_CHECKING:
    from runtime.batch_job.job import OnProgress
    from runtime.batch_job.predictor import Predictor

app = typer.Typer()


class RouteTo(StrEnum):
    """Where rows are answered."""

    LOCAL = "local"
    """By the model in this process."""
    AUTO = "auto"
    EDGE = "edge"
    CLOUD = "cloud"


@app.command(epilog="Example: edgeward predict digits images.npz -o answers.jsonl")
def predict(
    source: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A name that ships (digits), a folder, a tar, or a model file.")
    ],
    input_file: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help=f"Rows: {SUFFIXES}, or a folder of images; inputs by name. For a model of one input, the "
            "only array of a .npz, or a table's columns in their order, are taken whatever their names; the summary says so.",
        ),
    ],
    output_file: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUTPUT", help=f"The suffix says how: {SUFFIXES}."),
    ],
    errors_file: Annotated[
        Path | None,
        typer.Option(
            "--errors", metavar="FILE", help="Rows that cannot be read, or hold NaN or infinity (OUTPUT.errors.jsonl)."
        ),
    ] = None,
    route: Annotated[
        RouteTo, typer.Option("--route", help="local: here; auto, edge, cloud: by the agent at --address.")
    ] = RouteTo.LOCAL,
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="gRPC address of an agent or gateway, for --route.")
    ] = "127.0.0.1:8001",
    objective: Annotated[
        Objective | None,
        typer.Option(
            "--objective", help="What the model is chosen for here (the manifest's, latency); a long file: throughput."
        ),
    ] = None,
    is_fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, also where an earlier run was broken off.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON for a program.")] = False,
) -> None:
    """Runs every row of INPUT through the model and writes OUTPUT, which appears only when it is whole.

    Broken off and run again it goes on where it was, and writes the same bytes. Rows with NaN or infinity, or with values outside
    the range that the manifest declares, are answered, and counted in the summary.
    """
    from runtime.batch_job.job import BatchJob, run_batch

    check_input(input_file)
    check_output(output_file)
    with _opened(source, route, address, objective) as predictor, _progress() as on_progress:
        job = BatchJob(input_file, output_file, errors_file, is_fresh)
        try:
            done = run_batch(job, predictor, on_progress)
        except EdgewardError as error:
            told = str(error)
            raise (error if str(input_file) in told else type(error)(f"{input_file}: {told}")) from error
        backend = predictor.serving
        name, version = predictor.name, predictor.version
    if as_json:
        print(
            json.dumps(
                {
                    "model": name,
                    "version": int(version) if version.isdecimal() else version,
                    "backend": backend,
                    "rows": done.rows,
                    "unreadable_rows": done.unreadable,
                    "errors": None if done.errors_file is None else str(done.errors_file),
                    "resumed_at_row": done.resumed_at,
                    "seconds": done.seconds,
                    "output": str(output_file),
                    "unused_arrays": list(done.unused),
                    "assumed": done.assumed or None,
                    "non_finite_rows": done.non_finite,
                    "out_of_range_rows": done.out_of_range,
                    "first_out_of_range": done.first_out_of_range or None,
                }
            )
        )
        return
    rate = (done.rows + done.unreadable - done.resumed_at) / done.seconds if done.seconds else 0.0
    notes = [
        f"went on after row {done.resumed_at:,}" if done.resumed_at else "",
        done.assumed,
        f"not used: {', '.join(done.unused)}" if done.unused else "",
    ]
    said = "; ".join(note for note in notes if note)
    print(
        f"{done.rows:,} rows in {done.seconds:.2f} s ({rate:,.0f}/s) by {backend}: {output_file}"
        + (f" ({said})" if said else "")
    )
    if done.unreadable:
        typer.echo(f"{done.unreadable:,} rows could not be read; which and why: {done.errors_file}", err=True)
    if done.non_finite:
        typer.echo(
            f"{_rows(done.non_finite)} with NaN or infinity, answered all the same; which: {done.errors_file}", err=True
        )
    if done.out_of_range:
        typer.echo(
            f"{_rows(done.out_of_range)} outside the range that the manifest declares, answered all the same; the first: "
            f"{done.first_out_of_range}; bring the values into that range first",
            err=True,
        )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


@contextmanager
def _opened(source: str, route: RouteTo, address: str, objective: Objective | None) -> Iterator[Predictor]:
    if route is not RouteTo.LOCAL:
        from runtime.batch_job.predictor import RemotePredictor
        from runtime.client import connect

        with connect(address) as client:
            name, bundle = _named(source)
            yield RemotePredictor(client, name, route.value, address, bundle)
        return
    from runtime.batch_job.predictor import LocalPredictor
    from runtime.engine.load import load
    from runtime.engine.settings import EngineSettings
    from runtime.engine.watch_settings import WatchSettings

    # Nothing takes over in the middle: one job's answers all come from one candidate.
    with load(source, EngineSettings(SelectionSettings(objective=objective), watch=WatchSettings(0, 0))) as model:
        yield LocalPredictor(model)


def _named(source: str) -> tuple[str, object]:
    """The model's name on a server, and the bundle where it is here too."""
    from runtime import config
    from runtime.bundle.locate import open_bundles
    from runtime.errors import BundleError

    try:
        bundle = open_bundles(source, config.home() / "bundles")[-1]
    except BundleError:
        return source, None
    return bundle.name, bundle


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar with rate and time left on standard error, where a person watches."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from runtime.batch_job.job import Progress as Stand
    from runtime.cli.console import people

    console = people()
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[unreadable]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("rows", total=None, rate="", unreadable="")

        def show(stand: Stand) -> None:
            speed = bar.tasks[0].speed
            bar.update(
                task,
                total=stand.rows_total,
                completed=stand.rows_done,
                rate="" if speed is None else f"{speed:,.0f}/s",
                unreadable=f"{stand.rows_unreadable} unreadable" if stand.rows_unreadable else "",
            )

        yield show
