"""`edgeward bundle build|inspect|verify`: makes bundles, shows what one says of itself, and checks whether it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.bundle.manifest import Task
from runtime.bundle.objective import Objective

if TYPE_CHECKING:
    from rich.status import Status
    from rich.table import Table

    from runtime.building.build import BuildReport
    from runtime.building.check import AccuracyCheck
    from runtime.bundle.bundle import Bundle

app = typer.Typer(help="Builds bundles, looks into them and checks them.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A name that ships (digits), a folder, a tar, or a model file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]

_STEPS = (
    "A step from what callers send to the model's input, repeated in order: resize:32x32 (then :nearest, :NCHW), scale:1/255, "
    "normalise:0.5/0.2 (mean/deviation, or one a channel: 0.5,0.4/0.2,0.3; then :AXIS), layout:NCHW, "
    "reorder:2,1,0 (then :AXIS), cast:FP32."
)
_SPEC = (
    "Everything in one file: name, version, description, task, class_names, tables targets, inputs.NAME with model_input, "
    "datatype, shape, meaning, range, preprocess, and outputs.NAME. Flags go over it."
)


@app.command(
    epilog="Example: edgeward bundle build resnet8.onnx -o resnet8 --calibration cifar10.npz "
    "--preprocess layout:NCHW --preprocess cast:FP32 --accuracy-floor 0.74"
)
def build(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A model: .pt2 (torch.export.save), .onnx or .tflite.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The bundle's folder.")],
    calibration: Annotated[
        Path,
        typer.Option(
            "--calibration",
            metavar="FILE.npz",
            help="Rows as callers send them: an array for each input, and 'labels'.",
        ),
    ],
    spec: Annotated[Path | None, typer.Option("--spec", metavar="FILE.toml", help=_SPEC)] = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's name; SOURCE's stem otherwise.")] = None,
    version: Annotated[int | None, typer.Option("--version", help="The model's version; 1 otherwise.")] = None,
    task: Annotated[Task | None, typer.Option("--task", help="How answers are compared.")] = None,
    accuracy_floor: Annotated[
        float | None, typer.Option("--accuracy-floor", help="The share of right answers every variant must reach.")
    ] = None,
    objective: Annotated[
        Objective | None,
        typer.Option(
            "--objective", help="What machines choose by among the variants; otherwise latency, of servers efficiency."
        ),
    ] = None,
    preprocess: Annotated[list[str] | None, typer.Option("--preprocess", metavar="STEP", help=_STEPS)] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="VARIANT", help="A variant not to make, such as fp16.onnx.")
    ] = None,
    calibration_rows: Annotated[
        int | None, typer.Option("--calibration-rows", help="Rows for quantisation, at most half; the rest measures.")
    ] = None,
    time_limit_s: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", help="For each conversion and measurement.")
    ] = None,
    is_replaced: Annotated[bool, typer.Option("--replace", help="Replace FOLDER where it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Makes every variant that SOURCE allows, measures each on rows it was not calibrated on, and writes those that are right."""
    from runtime.building.build import build_bundle
    from runtime.building.request import parse_steps, read_request

    flags: dict[str, Any] = {"name": name, "version": version, "task": task}
    flags |= {"accuracy_floor": accuracy_floor, "objective": objective}
    flags |= {"calibration_rows": calibration_rows, "time_limit_s": time_limit_s}
    flags |= {
        "preprocess": parse_steps(preprocess) if preprocess else None,
        "without": tuple(without) if without else None,
    }
    request = read_request(spec, flags)
    with _watched(f"building {out.name}") as status:
        progress = None if status is None else lambda what, share: status.update(what)
        report = build_bundle(source, out, calibration, request, replace=is_replaced, progress=progress)
    _show_build(report, out, as_json=as_json)


@app.command(epilog="Example: edgeward bundle inspect digits")
def inspect(source: Source, as_json: AsJson = False) -> None:
    """Prints name, version, tensors, preprocessing, targets, variants, what was left out, and how it was made."""
    bundles = _open(source)
    if as_json:
        print(json.dumps([_as_dict(bundle) for bundle in bundles], indent=2))
        return
    from runtime.cli.console import facts, standard

    console = standard()
    for bundle in bundles:
        console.print(facts(_facts(bundle), title=f"[bold]{bundle.name}[/] version {bundle.version}"))
        for table in _tables(bundle):
            console.print()
            console.print(table)


@app.command(epilog="Example: edgeward bundle verify model.tar")
def verify(
    source: Source,
    is_measured: Annotated[
        bool, typer.Option("--accuracy/--no-accuracy", help="Run each variant over the samples again.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Checks manifest, size and sha256 of every file, and each variant's accuracy here; exit code 1 when one does not hold."""
    from runtime.building.isolated import Limits

    bundles = _open(source)
    for bundle in bundles:
        bundle.verify()
    checks: dict[str, tuple[AccuracyCheck, ...]] = {}
    if is_measured:
        from runtime.building.check import check_accuracy

        with _watched(f"checking {source}, every variant on its samples"):
            checks = {bundle.digest: check_accuracy(bundle, Limits()) for bundle in bundles}
    is_fine = not any(check.problem for found in checks.values() for check in found)
    if as_json:
        print(json.dumps([_verified(bundle, checks.get(bundle.digest, ())) for bundle in bundles], indent=2))
    else:
        _show_checks(bundles, checks)
    if not is_fine:
        raise typer.Exit(1)


def _watched(what: str) -> AbstractContextManager[Status | None]:
    """Says `what` goes on, where a person watches."""
    from runtime.cli.console import people

    watcher = people()
    return watcher.status(what) if watcher.is_terminal else nullcontext()


def _open(source: str) -> list[Bundle]:
    from runtime import config
    from runtime.bundle.locate import open_bundles

    return open_bundles(source, config.home() / "bundles")


def _show_build(report: BuildReport, out: Path, *, as_json: bool) -> None:
    if as_json:
        said: dict[str, Any] = {"folder": str(out), "name": report.bundle.name, "digest": report.bundle.digest}
        said |= {"split": report.split, "warnings": list(report.warnings)}
        print(json.dumps({**said, "variants": [asdict(one) for one in report.variants]}, indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    from runtime.cli.console import people, standard

    console = standard()
    table = Table("variant", "size", "accuracy", "agreement", "measured on", "", box=None, pad_edge=False)
    for one in report.variants:
        result = "kept" if one.reason is None else "left out"
        shares = ("", "") if one.backend is None else (_share(one.accuracy), _share(one.agreement))
        row = (one.name, _size(one.size_bytes), *shares, one.backend or "", result)
        table.add_row(*(Text(word) for word in row), style=None if one.reason is None else "dim")
    console.print(table)
    left_out = [one for one in report.variants if one.reason is not None]
    if left_out:
        console.print(Text("Left out", style="bold"))
    for one in left_out:
        console.print(Text(f"  {one.name}: {one.reason}"))
    console.print(Text(report.split))
    for warning in report.warnings:
        people().print(Text(f"note: {warning}"), style="yellow")
    console.print(
        Text(f"wrote {out}: {report.bundle.name} version {report.bundle.version}, digest {report.bundle.digest[:16]}…")
    )


def _show_checks(bundles: list[Bundle], checks: dict[str, tuple[AccuracyCheck, ...]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from runtime.building.check import ACCURACY_TOLERANCE
    from runtime.cli.console import standard

    console = standard()
    for bundle in bundles:
        files = len(bundle.files())
        console.print(Text(f"{bundle.name} version {bundle.version}: {files} files hold, digest {bundle.digest[:16]}…"))
        if bundle.digest not in checks:
            continue
        said = {variant.name: variant for variant in bundle.variants}
        table = Table(
            "variant", "accuracy here", "as built", "agreement here", "as built", "on", "", box=None, pad_edge=False
        )
        for one in checks[bundle.digest]:
            built = said[one.variant]
            result = one.problem or (f"not checked: {one.unchecked}" if one.unchecked else "holds")
            told = (one.accuracy, built.accuracy, one.agreement, built.agreement)
            shares = ("–" if share is None else _share(share) for share in told)
            style = "red" if one.problem else "dim" if one.unchecked else None
            table.add_row(*(Text(word) for word in (one.variant, *shares, one.backend or "", result)), style=style)
        console.print(table)
        console.print(
            Text(f"a share holds when it is at most {ACCURACY_TOLERANCE:.0%} below the one as built"), style="dim"
        )


def _verified(bundle: Bundle, checks: tuple[AccuracyCheck, ...]) -> dict[str, Any]:
    said = {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}
    return {**said, "ok": not any(check.problem for check in checks), "variants": [asdict(check) for check in checks]}


def _as_dict(bundle: Bundle) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "root": str(bundle.root),
    }
    described["manifest"] = (
        None if bundle.manifest is None else bundle.manifest.model_dump(mode="json", exclude_none=True)
    )
    described["variants"] = [variant.model_dump(mode="json", exclude_none=True) for variant in bundle.variants]
    return described


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    lines = [("folder", str(bundle.root)), ("digest", bundle.digest)]
    manifest = bundle.manifest
    if manifest is None:
        return [
            *lines,
            ("manifest", "none: a bare model file, served as a bundle of one variant; nothing guards its accuracy"),
        ]
    lines += [("description", manifest.description)] if manifest.description else []
    lines.append(("task", manifest.task.value))
    lines += [(f"input {t.name}", f"{t.spec}  {t.meaning}".rstrip()) for t in manifest.inputs]
    return lines + [(f"output {t.name}", f"{t.spec}  {t.meaning}".rstrip()) for t in manifest.outputs]


def _tables(bundle: Bundle) -> list[Table]:
    """Preprocessing, targets, variants, what was left out and provenance, those there are."""
    from rich.table import Table
    from rich.text import Text

    from runtime.bundle.preprocessing import show_step

    def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[Table]:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in headings:
            made.add_column(heading, overflow="fold")
        for row in rows:
            made.add_row(*(Text(word) for word in row))
        return [made] if rows else []

    manifest = bundle.manifest
    headings, variants = _variants(bundle)
    if manifest is None:
        return table(headings, variants)
    steps = []
    for tensor in manifest.inputs:
        spec = tensor.spec
        for number, step in enumerate(tensor.preprocess, 1):
            spec = step.apply_to(spec)
            steps.append((tensor.name, f"{number}. {show_step(step)}", str(spec)))
    targets = [
        (key, value if isinstance(value, str) else f"{value:g}")
        for key, value in manifest.targets.model_dump(exclude_none=True).items()
    ]
    return [
        *table(("input", "preprocessing", "gives"), steps),
        *table(("target", "value"), targets or [("none", "")]),
        *table(headings, variants),
        *table(("left out", "why"), [(left.name, left.reason) for left in manifest.left_out]),
        *table(("made with", ""), list(manifest.provenance.items())),
    ]


def _variants(bundle: Bundle) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows; with files only where those are not named as their variants, which would not fit 80 columns."""
    has_files = any(Path(v.file).name != v.name for v in bundle.variants)
    rows: list[tuple[str, ...]] = []
    for v in bundle.variants:
        file = (v.file,) if has_files else ()
        batch = "free" if v.fixed_batch is None else str(v.fixed_batch)
        shares = (_share(v.accuracy), _share(v.agreement))
        rows.append((v.name, *file, v.precision, batch, *shares, _size(v.size_bytes)))
    files = ("file",) if has_files else ()
    return ("variant", *files, "precision", "batch", "accuracy", "agreement", "size"), rows


def _share(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"


def _size(size_bytes: int | None) -> str:
    from runtime.hardware.describing import format_bytes

    return "" if size_bytes is None else format_bytes(size_bytes)
