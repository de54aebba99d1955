"""CUDA graphs: the kernels of a call recorded once for each shape, and launched together ever after.

A replay reads and writes the addresses of the recording, so every shape has buffers of its own on the device. What ONNX
Runtime allocates for itself may be among those addresses too: nothing of it is ever handed out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from runtime.backends.cuda_recording import GATE
from runtime.backends.failures import one_line
from runtime.tensors import Array

log = logging.getLogger(__name__)

MAX_GRAPHS: Final = 8
"""Shapes that are recorded, the first ones seen; each holds buffers on the device. Any other shape runs kernel by kernel."""
_NO_GRAPH: Final = -1
"""The number that tells ONNX Runtime to neither record nor replay (`gpu_graph_id`)."""

_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Graph:
    """One shape's recording and its buffers."""

    binding: Any
    options: Any
    inputs: Mapping[str, Any]
    outputs: Sequence[Any]
    threads: set[int] = field(default_factory=set)
    """Those that have recorded it: ONNX Runtime keeps a recording with the thread that made it (`PerThreadContext`)."""


class CudaGraphs:
    """Stands in for `InferenceSession.run` of a session with `enable_cuda_graph`. Calls wait for each other.

    Every thread records a shape of its own: its first call takes as long as four, and no other call on the GPU runs beside it.
    """

    def __init__(self, ort: ModuleType, session: Any) -> None:
        self._ort = ort
        self._session = session
        self._lock = threading.Lock()
        self._graphs: dict[_Shapes, _Graph] = {}
        self._has_failed = False
        self._no_graph = self._options(_NO_GRAPH)

    def run(self, names: Sequence[str], inputs: Mapping[str, Array]) -> Sequence[Array]:
        """The outputs in the order of `names`, always all of the model's."""
        shapes = tuple((name, inputs[name].shape) for name in sorted(inputs))
        with self._lock:
            graph = self._graphs.get(shapes)
            with GATE:
                if graph is not None and threading.get_ident() in graph.threads:
                    return self._replay(graph, inputs)
                results: Sequence[Array] = self._session.run(names, inputs, self._no_graph)
            is_empty = not all(value.size for value in (*inputs.values(), *results))
            may_record = graph is not None or len(self._graphs) < MAX_GRAPHS
            if may_record and not is_empty and not self._has_failed:
                self._record(shapes, graph, names, inputs, results)
            return results

    def _record(
        self,
        shapes: _Shapes,
        graph: _Graph | None,
        names: Sequence[str],
        inputs: Mapping[str, Array],
        results: Sequence[Array],
    ) -> None:
        """Raises when not even the first recording succeeds: then this is not the way to run the model."""
        try:
            with GATE.recording():
                graph = graph or self._allocate(names, inputs, results)
                self._session.run_with_iobinding(graph.binding, graph.options)
        except Exception as error:
            if not self._graphs:
                raise
            self._has_failed = True
            log.warning("no further CUDA graph is recorded, other shapes run kernel by kernel: %s", one_line(error))
            return
        graph.threads.add(threading.get_ident())
        self._graphs[shapes] = graph

    def _replay(self, graph: _Graph, inputs: Mapping[str, Array]) -> Sequence[Array]:
        for name, buffer in graph.inputs.items():
            buffer.update_inplace(inputs[name])
        self._session.run_with_iobinding(graph.binding, graph.options)
        return [buffer.numpy() for buffer in graph.outputs]

    def _allocate(self, names: Sequence[str], inputs: Mapping[str, Array], results: Sequence[Array]) -> _Graph:
        value = self._ort.OrtValue
        graph = _Graph(
            binding=self._session.io_binding(),
            options=self._options(len(self._graphs) + 1),
            inputs={name: value.ortvalue_from_numpy(array, "cuda") for name, array in inputs.items()},
            outputs=[value.ortvalue_from_shape_and_type(array.shape, array.dtype, "cuda") for array in results],
        )
        for name, buffer in graph.inputs.items():
            graph.binding.bind_ortvalue_input(name, buffer)
        for name, buffer in zip(names, graph.outputs, strict=True):
            graph.binding.bind_ortvalue_output(name, buffer)
        return graph

    def _options(self, number: int) -> Any:
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(number))
        return options
