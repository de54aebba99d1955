"""The flags of every serving program for its log and its traces."""

from __future__ import annotations

from typing import Annotated

import typer

LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format", metavar="text|json", help="json: one object a line, with the request it belongs to (text)."
    ),
]
OtlpEndpoint = Annotated[
    str | None,
    typer.Option(
        "--otlp-endpoint",
        metavar="URL",
        help="Collector for OpenTelemetry traces, such as http://127.0.0.1:4318; none: no traces.",
    ),
]
