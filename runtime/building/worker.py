"""The other end of `isolated`: reads an order, does it, writes what came of it. Runs in a process that is thrown away."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from pathlib import Path

from runtime.errors import EdgewardError

MAX_REASON_CHARS = 500


def main(order_file: str, result_file: str) -> None:
    """Calls the function that the order names; a failure is a result too."""
    warnings.simplefilter("ignore")  # converters warn by the page
    order = json.loads(Path(order_file).read_text(encoding="utf-8"))
    module, _, function = order["work"].partition(":")
    result: dict[str, object]
    try:
        result = {"done": getattr(import_module(module), function)(**order["arguments"])}
    except Exception as error:
        result = {"failed": reason_of(error)}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def reason_of(error: Exception) -> str:
    """A sentence on `error`: ours as they are, foreign ones with their kind, the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(" ".join(lines).split())
    if not isinstance(error, EdgewardError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= MAX_REASON_CHARS else f"{text[:MAX_REASON_CHARS]}…"
