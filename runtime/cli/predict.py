"""`edgeward predict BUNDLE INPUT -o OUTPUT`: a file of rows through a model, in batches, in constant memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from runtime.errors import EdgewardError, InvalidInputError
from runtime.tensors import Array, TensorSpec, as_bytes_tensor, check_inputs

if TYPE_CHECKING:
    from runtime.cli.row_reader import ArrayReader
    from runtime.engine.model import Model

app = typer.Typer()


@app.command(epilog="Example: edgeward predict digits images.npz -o answers.jsonl")
def predict(
    source: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A name that ships (digits), a folder, a tar, or a model file.")
    ],
    input_file: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help=".npz with an array for every input by its name (or one array), or .npy."),
    ],
    output_file: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUTPUT", help="The suffix says how: .npz, .npy, .jsonl or .csv.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON for a program.")] = False,
) -> None:
    """Runs every row of INPUT through the model and writes OUTPUT, which appears only when it is whole."""
    from runtime.cli.row_reader import open_arrays
    from runtime.cli.row_writer import open_writer
    from runtime.engine.engine import load

    with open_arrays(input_file) as arrays, load(source) as model:
        readers = pick_inputs(model, arrays, input_file)
        rows = count_rows(readers)
        step = batch_rows(model)
        check_shapes(model, readers, input_file)
        started = time.perf_counter()
        with open_writer(output_file, rows) as writer, _progress(rows) as advance:
            for first in range(0, rows, step) or [0]:
                count = min(step, rows - first)
                chunk = {spec.name: as_input(spec, readers[spec.name].read(count)) for spec in model.inputs}
                try:
                    writer.write(model.predict(chunk))
                except EdgewardError as error:
                    raise type(error)(f"{input_file}, rows {first} to {first + count - 1}: {error}") from error
                advance(count)
        took_s = time.perf_counter() - started
        summary = {
            "model": model.name,
            "version": model.version,
            "backend": model.serving,
            "rows": rows,
            "seconds": took_s,
        }
    unused = sorted({a.name for a in arrays} - {r.name for r in readers.values()})
    if as_json:
        print(json.dumps({**summary, "output": str(output_file), "unused_arrays": unused}))
        return
    print(
        f"{rows} rows in {took_s:.2f} s by {summary['backend']}: {output_file}"
        + (f" (not used: {', '.join(unused)})" if unused else "")
    )


def pick_inputs(model: Model, arrays: list[ArrayReader], file: Path) -> dict[str, ArrayReader]:
    """The array of every input: by name, or the only one for the only input; `InvalidInputError` lists what there is."""
    by_name = {array.name: array for array in arrays}
    if len(model.inputs) == 1 and len(arrays) == 1:
        return {model.inputs[0].name: arrays[0]}
    missing = [spec for spec in model.inputs if spec.name not in by_name]
    if missing:
        held = ", ".join(repr(name) for name in by_name) or "no array"
        wants = ", ".join(f"{spec.name!r} {spec}" for spec in model.inputs)
        raise InvalidInputError(
            f"{file} has no array for input {missing[0].name!r}; it holds {held}; model {model.name!r} wants {wants}"
        )
    return {spec.name: by_name[spec.name] for spec in model.inputs}


def count_rows(readers: dict[str, ArrayReader]) -> int:
    """How many rows all arrays have; `InvalidInputError` when they differ."""
    counts = {reader.where: reader.shape[0] for reader in readers.values()}
    if len(set(counts.values())) != 1:
        raise InvalidInputError(
            f"arrays differ in rows: {', '.join(f'{where} has {rows}' for where, rows in counts.items())}"
        )
    return next(iter(counts.values()))


def check_shapes(model: Model, readers: dict[str, ArrayReader], file: Path) -> None:
    """`InvalidInputError` when an array as a whole does not fit, before anything runs."""
    stand_ins = {}
    for spec in model.inputs:
        reader = readers[spec.name]
        shape = reader.shape if spec.is_batched or not spec.shape else (spec.shape[0], *reader.shape[1:])
        # One element seen as the whole array: costs no memory.
        stand_ins[spec.name] = np.broadcast_to(as_input(spec, np.zeros((), reader.dtype)), shape)
    try:
        check_inputs(model.name, model.inputs, stand_ins)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error}") from error


def as_input(spec: TensorSpec, value: Array) -> Array:
    """`value` as the model takes it: byte order of this machine, strings as BYTES; nothing else is converted."""
    if spec.datatype == "BYTES" and value.dtype.kind in "SU":
        return as_bytes_tensor(value)
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def batch_rows(model: Model) -> int:
    """The rows of a call: the batch that measured fastest, or the number that the model's shape fixes."""
    if all(spec.is_batched for spec in model.inputs):
        return model.best_batch()
    return max(1, model.inputs[0].shape[0]) if model.inputs[0].shape else 1


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on standard error, where a person watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from runtime.cli.console import people

    console = people()
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("rows", total=rows)
        yield lambda count: bar.advance(task, count)
