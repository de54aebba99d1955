"""What the protocol has and this server does not do: one sentence each, the same over every transport.

Adding one of them is: take its line out here, and put its handler into `grpc_server` and its route into `rest_app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from runtime.errors import UnsupportedError

_CUDA_MEMORY: Final = (
    "engines here take tensors from the memory of the machine, not of a device; "
    "use system shared memory, or send tensors in the request"
)

UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CudaSharedMemoryRegister": _CUDA_MEMORY,
    }
)
"""RPC → why not."""


def unsupported(rpc: str) -> UnsupportedError:
    """The error that `rpc` (or its route) is answered with."""
    return UnsupportedError(f"{rpc} is not supported: {UNSUPPORTED[rpc]}")
