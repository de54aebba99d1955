"""`edgeward calibrate BUNDLE`: measures every way to run a model here and says which one is used, and why."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Annotated

import typer

from runtime.selection.settings import Objective, SelectionSettings

app = typer.Typer()


@app.command(epilog="Example: edgeward calibrate digits --objective throughput --budget 10")
def calibrate(
    source: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A name that ships (digits), a folder, a tar, or a model file.")
    ],
    budget_s: Annotated[
        float, typer.Option("--budget", metavar="SECONDS", help="Time for measuring.")
    ] = SelectionSettings().budget_s,
    objective: Annotated[
        Objective, typer.Option("--objective", help="What is made best among the candidates that are right enough.")
    ] = Objective.LATENCY,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Measure again although this machine was calibrated before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Measures each variant of BUNDLE on each engine here, checks its answers, and prints the choice, candidate by candidate."""
    from runtime import config
    from runtime.backends.registry import all_backends
    from runtime.bundle.locate import open_bundles
    from runtime.cli.choice_tables import show_choice
    from runtime.cli.console import people, standard
    from runtime.hardware import probe
    from runtime.selection.cache import glance
    from runtime.selection.select import choose

    settings = SelectionSettings(budget_s=budget_s, objective=objective, refresh=is_forced)
    home = config.home()
    bundle = open_bundles(source, home / "bundles")[-1]
    watcher = people()
    with watcher.status(f"calibrating {bundle.name}") if watcher.is_terminal else nullcontext() as status:
        progress = None if status is None else lambda what, share: status.update(f"{what} ({share:.0%})")
        seen = glance()
        choice = choose(bundle, probe(), all_backends(), settings, home / "calibrations", progress, seen)
    if as_json:
        print(json.dumps(choice.to_dict(), indent=2))
        return
    standard().print(show_choice(choice))
