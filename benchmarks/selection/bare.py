"""A session of the bare engine, of the same file with the same options: what a start is measured against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.backends.onnxruntime import SPIN_US
from runtime.selection.candidates import SPINNING, Candidate


def bare_opening(candidate: Candidate, path: Path) -> Callable[[], Any] | None:
    """Opens `path` as whoever calls the engine by itself does; None for an engine of which that is not written down here."""
    options = candidate.options
    if candidate.backend.name == "litert-cpu":
        from ai_edge_litert.interpreter import Interpreter

        def interpreter() -> Any:
            made = Interpreter(model_path=str(path), num_threads=options.threads)
            made.allocate_tensors()
            return made

        return interpreter
    if candidate.backend.name == "onnxruntime-cpu":
        import onnxruntime as ort

        def session() -> Any:
            chosen = ort.SessionOptions()
            chosen.intra_op_num_threads = options.threads
            chosen.inter_op_num_threads = 1
            if options.extra.get(SPINNING, "1") == "1":
                chosen.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
            else:
                chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
            return ort.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])

        return session
    return None
