"""`edgeward calibrate BUNDLE`: measures every way to run a model here and says which one is used, and why.

With `--cascade`, also how sure its answers must be for a wished-for risk.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.confidence.defaults import DEFAULT_RISK
from runtime.selection.settings import Objective, SelectionSettings

if TYPE_CHECKING:
    from runtime.bundle.bundle import Bundle
    from runtime.confidence.selective import Cascade
    from runtime.selection.choice import Choice

app = typer.Typer()


@app.command(epilog="Example: edgeward calibrate digits --p95 20 --objective memory --budget 10")
def calibrate(
    source: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A name that ships (digits), a folder, a tar, or a model file.")
    ],
    budget_s: Annotated[
        float, typer.Option("--budget", metavar="SECONDS", help="Time for measuring.")
    ] = SelectionSettings().budget_s,
    objective: Annotated[
        Objective | None,
        typer.Option(
            "--objective",
            help="What is made best of what meets the rest (the manifest's, latency; servers: efficiency).",
        ),
    ] = None,
    accuracy_floor: Annotated[
        float | None,
        typer.Option("--accuracy-floor", metavar="SHARE", help="Of right answers, at least (the manifest's)."),
    ] = None,
    agreement_floor: Annotated[
        float | None,
        typer.Option("--agreement-floor", metavar="SHARE", help="Of answers like the reference's, at least."),
    ] = None,
    memory_cap_mb: Annotated[
        float | None,
        typer.Option("--memory-cap", metavar="MB", help="What it may take, at most (the manifest's)."),
    ] = None,
    p95_ms: Annotated[
        float | None, typer.Option("--p95", metavar="MS", help="Of one row; who keeps it comes first (the manifest's).")
    ] = None,
    rows_per_s: Annotated[
        float | None,
        typer.Option("--rows-per-s", metavar="ROWS", help="In batches; who reaches it comes first (the manifest's)."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Of one call on the processor, at most (all allowed cores)."),
    ] = None,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Measure again although this machine was calibrated before.")
    ] = False,
    is_cascade: Annotated[
        bool,
        typer.Option(
            "--cascade", help="Also fit from which confidence on an answer may stand, on the labelled samples."
        ),
    ] = False,
    risk: Annotated[
        float,
        typer.Option(
            "--risk", min=1e-6, max=0.999, help="How many of the answers that stand may be wrong, with --cascade."
        ),
    ] = DEFAULT_RISK,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Measures each variant of BUNDLE on each engine here, checks its answers, and prints the choice, candidate by candidate."""
    from runtime import config
    from runtime.backends.registry import all_backends
    from runtime.bundle.locate import open_bundles
    from runtime.cli.cascade_table import show_cascade, show_fit
    from runtime.cli.choice_tables import show_choice, show_goal
    from runtime.cli.console import people, standard
    from runtime.hardware import probe
    from runtime.selection.cache import glance
    from runtime.selection.goal import explain
    from runtime.selection.select import choose

    settings = SelectionSettings(
        budget_s=budget_s,
        objective=objective,
        accuracy_floor=accuracy_floor,
        agreement_floor=agreement_floor,
        memory_cap_mb=memory_cap_mb,
        p95_ms=p95_ms,
        rows_per_s=rows_per_s,
        refresh=is_forced,
        threads=threads,
    )
    home = config.home()
    bundle = open_bundles(source, home / "bundles")[-1]
    watcher = people()
    with watcher.status(f"calibrating {bundle.name}") if watcher.is_terminal else nullcontext() as status:
        progress = None if status is None else lambda what, share: status.update(f"{what} ({share:.0%})")
        seen = glance()
        choice = choose(bundle, probe(), all_backends(), settings, home / "calibrations", progress, seen)
    cascade = _fit(bundle, choice, risk) if is_cascade else None
    if as_json:
        told = {**choice.to_dict(), "goal": [asdict(wish) for wish in explain(bundle, settings)]}
        if cascade is not None:
            told["cascade"] = cascade.to_dict()
        print(json.dumps(told, indent=2))
        return
    standard().print(show_goal(explain(bundle, settings)))
    standard().print(show_choice(choice))
    if cascade is not None:
        standard().print(show_fit(cascade), markup=False)
        standard().print(show_cascade(cascade))
        standard().print(cascade.why, markup=False)


def _fit(bundle: Bundle, choice: Choice, risk: float) -> Cascade:
    """The cascade of what was chosen: its own answers to the labelled samples count, not the reference's."""
    from runtime.confidence.scores import labelled_scores
    from runtime.confidence.selective import fit_cascade
    from runtime.engine.model import Model
    from runtime.errors import WrongUseError

    model = Model(bundle, choice)
    try:
        told = labelled_scores(bundle, model.predict)
    finally:
        model.close()
    if isinstance(told, str):
        raise WrongUseError(f"model {bundle.name!r} has no cascade: {told}")
    _, scores, labels = told
    return fit_cascade(scores, labels, risk)
