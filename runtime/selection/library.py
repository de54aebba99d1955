"""An engine's library loaded before its first candidate is tried, on whose account its memory and time would be otherwise.

An engine loads the most of itself with its first session: OpenVINO its plugin, 53 MB. So the first session is of a model that has
next to nothing of its own, where one is known that the engine reads: OpenVINO takes 0.7 s of the processor for a small
transformer's, and 0.17 s for this one (2 cores, November 2026).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runtime.backends.opened import OpenedVariant
from runtime.bundle.manifest import Format
from runtime.selection.candidates import CPU, Candidate

log = logging.getLogger(__name__)

LEAST_MODELS: Final = {
    Format.ONNX: b'\x08\x07:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r",
}
"""y = Relu(x) of one float32, opset 13. The other engines on the processor open a session in hundredths of a second, or (PyTorch)
load with it what only the program itself asks for."""


def load_library(
    candidate: Candidate, open_it: Callable[[], OpenedVariant], run: Callable[[OpenedVariant], object]
) -> None:
    """Has the engine of `candidate` load, with a session that is closed again; the errors are those of `open_it` and `run`.

    `open_it` opens the candidate itself, where no lesser model will do: a device's library comes with its first call (cuDNN: 375 MB
    of the host's memory, on an H100), which `run` makes.
    """
    least = LEAST_MODELS.get(candidate.variant.format)
    if least is not None and candidate.backend.device == CPU and _has_opened(candidate, least):
        return
    first = open_it()
    try:
        if candidate.backend.device != CPU:
            run(first)
    finally:
        first.close()


def _has_opened(candidate: Candidate, model: bytes) -> bool:
    with tempfile.TemporaryDirectory(prefix="edgeward-least-") as folder:
        file = Path(folder) / f"least.{candidate.variant.format}"
        file.write_bytes(model)
        try:
            candidate.backend.open(file, candidate.options).close()
        except Exception as error:  # another's engine, which need not read everything
            log.info(
                "%s does not open the least model, so the candidate is opened twice: %s", candidate.backend.name, error
            )
            return False
    return True
