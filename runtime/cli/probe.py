"""`edgeward probe`: what this machine is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog="Example: edgeward probe --json")
def probe(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False) -> None:
    """Says what this machine is: processor, cores and memory allowed, GPUs, NPUs, power, heat; what is absent, with its reason."""
    from runtime.hardware import describe, read_heat
    from runtime.hardware import probe as probe_hardware

    hardware, heat = probe_hardware(), read_heat()
    if as_json:
        print(
            json.dumps(
                {**asdict(hardware), "heat": asdict(heat), "fingerprint": hardware.fingerprint()}, indent=2, default=str
            )
        )
        return
    from runtime.cli.console import facts, standard

    standard().print(facts(describe(hardware, heat)))
