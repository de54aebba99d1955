"""LiteRT (TensorFlow Lite's successor) on the processor; `tflite_runtime` where an old device has only that.

XNNPACK runs what it can, as both packages do by default. The engine prints one INFO line a process to stderr; neither
package offers a way to stop it from Python.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.backends.failures import one_line, show_tensors
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError
from runtime.tensors import Array, TensorSpec, as_bytes_tensor, datatype_of

if TYPE_CHECKING:
    from runtime.hardware import Hardware

# (module, distribution), the better one first; both have the same `interpreter.Interpreter`.
PACKAGES: Final = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))

Details = Mapping[str, Any]


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
        try:
            interpreter = make(model_path=str(file), num_threads=options.threads)
            interpreter.allocate_tensors()
        except Exception as error:
            raise BundleError(
                f"{file} cannot be opened by LiteRT: {one_line(error)}; expected a TensorFlow Lite model"
            ) from error
        return LiteRTSession(interpreter, file)


class LiteRTSession:
    """One interpreter behind a lock, because it is not thread-safe.

    Tensors carry the signature's names where the model has one signature over its main graph, otherwise their own.
    """

    overlap = Overlap.OWN
    passes_nan = True

    def __init__(self, interpreter: Any, file: Path) -> None:
        in_names, out_names = _signature_names(interpreter)
        details_in: list[Details] = interpreter.get_input_details()
        details_out: list[Details] = interpreter.get_output_details()
        self.inputs = tuple(_spec(details, in_names, file) for details in details_in)
        self.outputs = tuple(_spec(details, out_names, file) for details in details_out)
        self._in_index = {
            spec.name: int(details["index"]) for spec, details in zip(self.inputs, details_in, strict=True)
        }
        self._out_index = [
            (spec.name, int(details["index"])) for spec, details in zip(self.outputs, details_out, strict=True)
        ]
        self._shapes = {
            spec.name: tuple(int(n) for n in details["shape"])
            for spec, details in zip(self.inputs, details_in, strict=True)
        }
        self._has_strings = any(spec.datatype == "BYTES" for spec in self.outputs)
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
        for name, index in self._in_index.items():
            interpreter.set_tensor(index, inputs[name])
        interpreter.invoke()
        results = {name: interpreter.get_tensor(index) for name, index in self._out_index}
        return {name: _bytes(value) for name, value in results.items()} if self._has_strings else results

    def _resize(self, inputs: Mapping[str, Array]) -> None:
        for name, index in self._in_index.items():
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


def _import_interpreter() -> Any:
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


def _signature_names(interpreter: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Names by tensor index from the model's only signature; empty where it has none, several, or another graph's."""
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        return {}, {}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    in_names = {int(details["index"]): str(name) for name, details in runner.get_input_details().items()}
    out_names = {int(details["index"]): str(name) for name, details in runner.get_output_details().items()}
    main_in = {int(details["index"]) for details in interpreter.get_input_details()}
    main_out = {int(details["index"]) for details in interpreter.get_output_details()}
    return (in_names, out_names) if set(in_names) == main_in and set(out_names) == main_out else ({}, {})


def _spec(details: Details, names: Mapping[int, str], file: Path) -> TensorSpec:
    name = names.get(int(details["index"]), str(details["name"]))
    try:
        datatype = datatype_of(np.dtype(details["dtype"]))
    except InvalidInputError as error:
        raise BundleError(f"tensor {name!r} of {file} is {details['dtype'].__name__}: {error}") from error
    # Models of before 2020 have no signature of shapes; it is empty then, and the shape is the only one.
    signature = details.get("shape_signature")
    shape = signature if signature is not None and len(signature) == len(details["shape"]) else details["shape"]
    return TensorSpec(name, datatype, tuple(int(n) for n in shape))


def _bytes(value: Array) -> Array:
    return as_bytes_tensor(value) if value.dtype.kind in "OSU" else value
