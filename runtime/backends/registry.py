"""The backends there are: our own, and those that other packages add by the entry point group `edgeward.backends`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from runtime.backends.base import Backend
from runtime.backends.foreign import load_foreign
from runtime.backends.litert import LiteRTBackend
from runtime.backends.litert_accelerated import LiteRTAcceleratedBackend
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.openvino import OpenVinoBackend
from runtime.backends.torch import TorchBackend

ENTRY_POINT_GROUP = "edgeward.backends"


@cache
def our_backends() -> tuple[Backend, ...]:
    """One of each of ours, available here or not, the same ones every time; imports no engine."""
    return (
        OnnxRuntimeBackend.cpu(),
        OnnxRuntimeBackend.cuda(),
        OnnxRuntimeBackend.tensorrt(),
        OnnxRuntimeBackend.openvino(),
        OnnxRuntimeBackend.directml(),
        OnnxRuntimeBackend.coreml(),
        LiteRTBackend(),
        LiteRTAcceleratedBackend.gpu(),
        LiteRTAcceleratedBackend.npu(),
        OpenVinoBackend(),
        TorchBackend.cpu(),
        TorchBackend.cuda(),
    )


def all_backends() -> tuple[Backend, ...]:
    """Ours, then those of other packages; an entry point names a callable without arguments that returns a `Backend`.

    An entry point that fails is a backend too, unavailable with the reason.
    """
    found = list(our_backends())
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found.append(load_foreign(point, frozenset(backend.name for backend in found)))
    return tuple(found)
