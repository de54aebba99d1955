"""The options that several commands of `edgeward bench` have, each said once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|min|h|)")


def seconds(text: str | float) -> float:
    """A time on the command line, in seconds: "5", "0.5", "30s", "2m"; `BadParameter` otherwise."""
    found = _SECONDS.fullmatch(str(text).strip())
    if found is None:
        raise typer.BadParameter(f"{str(text)!r} is no time; expected seconds such as 5 or 0.5, or 500ms, 30s, 2m")
    return float(found[1]) * _UNITS_S[found[2]]


Models = Annotated[str, typer.Option("--model", help="Names that ship, bundles or model files, with commas between.")]
Duration = Annotated[
    float,
    typer.Option(
        "--duration", metavar="SECONDS", parser=seconds, help="How long each measurement lasts: 5, 500ms, 2m."
    ),
]
Requests = Annotated[int | None, typer.Option("--requests", help="End each measurement after so many requests.")]
Rows = Annotated[int | None, typer.Option("--rows", help="Rows a request in multi (8) and offline (32).")]
SearchedRows = Annotated[
    int | None, typer.Option("--rows", help="Rows a request in multi (8), offline (32) and --find-max (1).")
]
InFlight = Annotated[
    int | None, typer.Option("--in-flight", help="Requests at once: offline (4), server at most (64).")
]
_ARRIVALS = "Of server: poisson:RATE, constant:RATE, ramp:FROM-TO, step:RATE,RATE,... or trace:FILE (poisson:150)"
Rate = Annotated[str | None, typer.Option("--arrivals", help=f"{_ARRIVALS}.")]
Rates = Annotated[
    list[str] | None,
    typer.Option("--arrivals", help=f"{_ARRIVALS}; again for another rate, and `report` draws the curve."),
]
WarmUp = Annotated[
    float, typer.Option("--warm-up", metavar="SECONDS", parser=seconds, help="Asked before, and not counted.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", parser=seconds, help="Deadline of one request.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of arrivals, order of rows, and random inputs.")]
KeyFile = Annotated[Path | None, typer.Option("--api-key-file", metavar="FILE", help="File with the server's API key.")]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", metavar="FILE", help="PEM: who signed the certificates of grpcs:// and https://."),
]
SloText = Annotated[
    str | None,
    typer.Option(
        "--slo", help="Such as 'p99<=50ms', or 50ms: count what is answered within it (goodput); see --find-max."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", help="Where raw samples go; new or empty (below EDGEWARD_HOME)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print figures as JSON.")]
Threshold = Annotated[
    float, typer.Option("--threshold", min=0.0, help="Changes below this share are of no practical interest.")
]
