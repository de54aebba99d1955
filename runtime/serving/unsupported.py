"""What the protocol has and this server does not do: one sentence each, the same over every transport.

Adding one of them is: take its line out here, and put its handler into `grpc_server` and its route into `rest_app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from runtime.errors import UnsupportedError

_STATISTICS: Final = "this server does not report statistics"
_SYSTEM_MEMORY: Final = "this server does not read shared memory; send tensors in the request"
_CUDA_MEMORY: Final = "this server does not read CUDA shared memory; send tensors in the request"
_TRACE: Final = "this server has no trace settings"
_LOG: Final = "this server's log settings cannot be changed while it runs; restart it with others"

UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ModelStatistics": _STATISTICS,
        "SystemSharedMemoryStatus": _SYSTEM_MEMORY,
        "SystemSharedMemoryRegister": _SYSTEM_MEMORY,
        "SystemSharedMemoryUnregister": _SYSTEM_MEMORY,
        "CudaSharedMemoryStatus": _CUDA_MEMORY,
        "CudaSharedMemoryRegister": _CUDA_MEMORY,
        "CudaSharedMemoryUnregister": _CUDA_MEMORY,
        "TraceSetting": _TRACE,
        "LogSettings": _LOG,
    }
)
"""RPC → why not."""


def unsupported(rpc: str) -> UnsupportedError:
    """The error that `rpc` (or its route) is answered with."""
    return UnsupportedError(f"{rpc} is not supported: {UNSUPPORTED[rpc]}")
