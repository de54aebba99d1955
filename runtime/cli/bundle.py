"""`edgeward bundle inspect|verify`: what a bundle says of itself, and whether its files are what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from runtime.bundle.bundle import Bundle

app = typer.Typer(help="Looks into bundles and checks them.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A name that ships (digits), a folder, a tar, or a model file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@app.command(epilog="Example: edgeward bundle inspect digits")
def inspect(source: Source, as_json: AsJson = False) -> None:
    """Prints name, version, tensors, targets and variants of every version in BUNDLE."""
    bundles = _open(source)
    if as_json:
        print(json.dumps([_as_dict(bundle) for bundle in bundles], indent=2))
        return
    from runtime.cli.console import facts, standard

    console = standard()
    for bundle in bundles:
        console.print(facts(_facts(bundle), title=f"[bold]{bundle.name}[/] version {bundle.version}"))
        console.print()
        console.print(_variants(bundle))


@app.command(epilog="Example: edgeward bundle verify model.tar")
def verify(source: Source, as_json: AsJson = False) -> None:
    """Checks size and sha256 of every file that the manifest names; exit code 1 names the first that does not hold."""
    bundles = _open(source)
    for bundle in bundles:
        bundle.verify()
    if as_json:
        print(
            json.dumps(
                [{"name": b.name, "version": b.version, "digest": b.digest, "ok": True} for b in bundles], indent=2
            )
        )
        return
    for bundle in bundles:
        print(f"{bundle.name} version {bundle.version}: {len(_files(bundle))} files hold, digest {bundle.digest[:16]}…")


def _open(source: str) -> list[Bundle]:
    from runtime import config
    from runtime.bundle.locate import open_bundles

    return open_bundles(source, config.home() / "bundles")


def _files(bundle: Bundle) -> list[str]:
    parts = (
        [] if bundle.manifest is None else [bundle.manifest.samples, bundle.manifest.profile, bundle.manifest.labels]
    )
    return [variant.file for variant in bundle.variants] + [part.file for part in parts if part is not None]


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
    lines += [(f"output {t.name}", f"{t.spec}  {t.meaning}".rstrip()) for t in manifest.outputs]
    targets = manifest.targets.model_dump(exclude_none=True)
    lines.append(("targets", ", ".join(f"{name} {value:g}" for name, value in targets.items()) or "none"))
    lines += [(f"left out: {left.name}", left.reason) for left in manifest.left_out]
    return lines + [(f"made with: {key}", value) for key, value in manifest.provenance.items()]


def _variants(bundle: Bundle) -> Table:
    from rich.table import Table

    from runtime.hardware.describe import format_bytes

    table = Table("variant", "file", "precision", "batch", "accuracy", "agreement", "size", box=None, pad_edge=False)
    for v in bundle.variants:
        batch = "free" if v.fixed_batch is None else str(v.fixed_batch)
        table.add_row(
            v.name, v.file, v.precision, batch, _percent(v.accuracy), _percent(v.agreement), format_bytes(v.size_bytes)
        )
    return table


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"
