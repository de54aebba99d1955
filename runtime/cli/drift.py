"""`edgeward drift report`: has the input changed, and where is the model wrong? From a file of rows, or from a running program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import InvalidInputError, WrongUseError

if TYPE_CHECKING:
    from runtime.drift_report.report import Rows
    from runtime.engine.model import Model
    from runtime.tensors import Array

app = typer.Typer(help="Says whether rows still look as a model knows them, and where it errs.", no_args_is_help=True)

MAX_FILE_BYTES = 4 << 30


@app.callback()
def group() -> None:
    """Keeps `report` a command of its own."""


@app.command(epilog="Example: edgeward drift report digits yesterday.npz")
def report(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE", help="A name that ships (digits), a folder, a tar; or the model to show of a server."
        ),
    ] = None,
    rows_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="ROWS",
            help=".npz with the inputs by name (or one array), `labels` by row where known, and any other array by row as a tag.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="HOST:PORT", help="HTTP address of a serve, agent or gateway (127.0.0.1:8000)."
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--api-key-file", metavar="FILE", help="File with the API key, where one is wanted.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write the report as one HTML file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Compares ROWS with the reference of BUNDLE; without ROWS, shows what a running program has seen.

    Ends with 0 whether or not anything drifts; `is_drifting` in the JSON says it.
    """
    if rows_file is not None:
        if bundle is None or address is not None:
            raise WrongUseError(
                "a file of rows needs a bundle and no address, as in: edgeward drift report digits rows.npz"
            )
        told = _of_rows(bundle, rows_file)
        reports = [told]
    else:
        from runtime.client.document import fetch_document

        key = None if key_file is None else _read_key(key_file)
        told = fetch_document(address or "127.0.0.1:8000", "/edgeward/drift", api_key=key)
        reports = _of_server(told, bundle)
    if html is not None:
        from runtime.cli.drift_html import page

        html.write_text(page(reports), encoding="utf-8")
    if as_json:
        print(json.dumps(told, indent=2))
        return
    from runtime.cli.console import standard
    from runtime.cli.drift_text import show

    console = standard()
    for one in reports:
        show(console, one)
    if not reports:
        console.print("nothing was counted yet: statistics begin with the first requests")


def _of_rows(source: str, file: Path) -> dict[str, Any]:
    from runtime.drift_report.report import make_report
    from runtime.engine.load import load

    arrays = _read_arrays(file)
    with load(source) as model:
        return {"file": str(file), **make_report(model, _rows_of(model, arrays, file))}


def _read_arrays(file: Path) -> dict[str, Array]:
    import zipfile

    import numpy as np

    from runtime.bundle.samples import names_as_rows

    if file.suffix != ".npz":
        raise WrongUseError(f"rows {file} have the suffix {file.suffix!r}; expected .npz, as numpy.savez writes it")
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_FILE_BYTES:
            raise WrongUseError(
                f"{file} unpacks to {size} bytes; a report takes at most {MAX_FILE_BYTES}: give it a part"
            )
        with np.load(file, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[key]) for key, name in names_as_rows(arrays.files).items()}
    except OSError as error:
        raise WrongUseError(f"rows {file} cannot be read: {error.strerror or error}; check the path") from error
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InvalidInputError(
            f"rows {file} are no .npz without pickles: {error}; write them with numpy.savez"
        ) from error


def _rows_of(model: Model, arrays: dict[str, Array], file: Path) -> Rows:
    from runtime.drift_report.report import Rows
    from runtime.tensors import as_bytes_tensor, check_inputs

    names = {spec.name for spec in model.inputs}
    side = {name: a for name, a in arrays.items() if name not in names and (name == "labels" or a.ndim == 1)}
    main = {name: a for name, a in arrays.items() if name not in side}
    if len(model.inputs) == 1 and len(main) == 1:
        main = {model.inputs[0].name: next(iter(main.values()))}
    missing = [spec for spec in model.inputs if spec.name not in main]
    if missing:
        held = ", ".join(map(repr, arrays)) or "no array"
        raise InvalidInputError(f"{file} has no array for input {missing[0].name!r} {missing[0]}; it holds {held}")
    inputs = {spec.name: main[spec.name] for spec in model.inputs}
    for spec in model.inputs:
        if spec.datatype == "BYTES" and inputs[spec.name].dtype.kind in "SU":
            inputs[spec.name] = as_bytes_tensor(inputs[spec.name])
    try:
        rows = check_inputs(model.name, model.inputs, inputs)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error}") from error
    for name, value in side.items():
        if len(value) != rows:
            raise InvalidInputError(f"{file}: {name!r} has {len(value)} rows, the inputs have {rows}")
    labels = side.pop("labels", None)
    return Rows(inputs, labels, side)


def _of_server(told: Mapping[str, Any], model: str | None) -> list[dict[str, Any]]:
    clock = {"now": told.get("now"), "now_unix": told.get("now_unix")}
    labelled, figures = _by_version((told.get("labels") or {}).get("models", [])), _by_version(told.get("figures", []))
    own = [
        {
            **one,
            **clock,
            "seen_by": told.get("program"),
            "errors": labelled.get((one["model"], one["version"]), {}).get("errors"),
            "figures": figures.get((one["model"], one["version"]), {}).get("figures"),
        }
        for one in told.get("models", [])
    ]
    devices = told.get("devices") or {}
    fleet = [{**one, **clock, "seen_by": "devices"} for one in devices.get("models", [])]
    found = [one for one in (*own, *fleet) if model in (None, one["model"])]
    if model is not None and not found:
        known = ", ".join(sorted({repr(one["model"]) for one in (*own, *fleet)})) or "none yet"
        raise WrongUseError(f"that program has counted nothing of model {model!r}; it has: {known}")
    return found


def _by_version(several: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(one["model"], one["version"]): one for one in several}


def _read_key(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise WrongUseError(f"the API key file {file} cannot be read: {error}") from error
