"""LiteRT (TensorFlow Lite's successor) on the processor; `tflite_runtime` where an old device has only that.

XNNPACK runs what it can, as both packages do by default. The engine prints one INFO line a process to stderr; neither
package offers a way to stop it from Python.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.backends.failures import one_line, show_tensors
from runtime.backends.litert_files import known_file
from runtime.backends.litert_tensors import Tensors, read_tensors
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError
from runtime.tensors import Array, as_bytes_tensor

if TYPE_CHECKING:
    from runtime.hardware import Hardware

# (module, distribution), the better one first; both have the same `interpreter.Interpreter`.
PACKAGES: Final = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))


class LiteRTBackend:
    """`.tflite` files on the processor."""

    name = "litert-cpu"
    device = "cpu"
    formats = frozenset({Format.TFLITE})

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """None when one of the two packages is installed."""
        if any(find_spec(module) is not None for module, _ in PACKAGES):
            return None
        return "LiteRT is not installed: pip install ai-edge-litert (or tflite-runtime on an old device)"

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """Only one way."""
        return ({},)

    def version(self) -> str:
        """Of the package that would be used, named where it is `tflite-runtime`."""
        for module, package in PACKAGES:
            if find_spec(module) is not None:
                try:
                    number = version(package)
                except PackageNotFoundError:
                    number = "unknown"
                return number if module == "ai_edge_litert" else f"{number} ({package})"
        return "not installed"

    def open(self, file: Path, options: RunOptions) -> LiteRTSession:
        """An interpreter with `options.threads` threads, its tensors allocated."""
        check_extra(self.name, options, {})
        make = _import_interpreter()
        name = str(file)
        try:
            known = known_file(name)
            if known.content is None:
                interpreter = make(model_path=name, num_threads=options.threads)
            else:
                interpreter = make(model_content=known.content, num_threads=options.threads)
            interpreter.allocate_tensors()
        except Exception as error:
            raise BundleError(
                f"{file} cannot be opened by LiteRT: {one_line(error)}; expected a TensorFlow Lite model"
            ) from error
        if known.tensors is None:
            known.tensors = read_tensors(name, interpreter)
        return LiteRTSession(interpreter, known.tensors)


class LiteRTSession:
    """One interpreter behind a lock, because it is not thread-safe."""

    overlap = Overlap.OWN
    passes_nan = True

    def __init__(self, interpreter: Any, tensors: Tensors) -> None:
        self.inputs = tensors.inputs
        self.outputs = tensors.outputs
        self._tensors = tensors
        self._shapes = tensors.shapes
        """What is allocated now; empty after a call that failed."""
        self._interpreter: Any = interpreter
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, copied out of the interpreter; a new shape costs an allocation."""
        with self._lock:
            try:
                return self._run(inputs)
            except InvalidInputError:
                raise
            except Exception as error:
                self._shapes = {}  # whatever is allocated now is not to be trusted: the next call allocates again
                raise ExecutionError(f"LiteRT failed on {show_tensors(inputs)}: {one_line(error)}") from error

    def close(self) -> None:
        """Waits for a call that still runs, then frees the interpreter."""
        with self._lock:
            self._interpreter = None

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        interpreter = self._interpreter
        if interpreter is None:
            raise RuntimeError("the session is closed")
        shapes = {name: value.shape for name, value in inputs.items()}
        if shapes != self._shapes:
            # LiteRT allocates nothing for zero rows and then refuses to be invoked, or worse; nobody needs it to.
            if any(0 in shape for shape in shapes.values()):
                return self._empty(inputs)
            self._resize(inputs)
            self._shapes = shapes
        for name, index in self._tensors.in_index.items():
            interpreter.set_tensor(index, inputs[name])
        interpreter.invoke()
        results = {name: interpreter.get_tensor(index) for name, index in self._tensors.out_index}
        return {name: _bytes(value) for name, value in results.items()} if self._tensors.has_strings else results

    def _resize(self, inputs: Mapping[str, Array]) -> None:
        for name, index in self._tensors.in_index.items():
            self._interpreter.resize_tensor_input(index, list(inputs[name].shape), strict=True)
        self._interpreter.allocate_tensors()

    def _empty(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """No rows out for no rows in."""
        if not all(spec.is_batched for spec in (*self.inputs, *self.outputs)) or any(
            len(value) != 0 for value in inputs.values()
        ):
            raise InvalidInputError(
                f"{show_tensors(inputs)} holds no elements; LiteRT needs at least one in every dimension but the batch"
            )
        return {spec.name: np.empty((0, *(max(n, 0) for n in spec.shape[1:])), spec.dtype) for spec in self.outputs}


@cache
def _import_interpreter() -> Any:
    """The class, once it could be imported: to look for a package again takes as long as a sixth of a small session's opening."""
    for module, package in PACKAGES:
        if find_spec(module) is None:
            continue
        try:
            if module == "ai_edge_litert":
                from ai_edge_litert.interpreter import Interpreter
            else:
                from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise BackendUnavailableError(f"{package} cannot be imported: {error}; install it again") from error
        return Interpreter
    raise BackendUnavailableError(
        "LiteRT is not installed: pip install ai-edge-litert (or tflite-runtime on an old device)"
    )


def _bytes(value: Array) -> Array:
    return as_bytes_tensor(value) if value.dtype.kind in "OSU" else value
