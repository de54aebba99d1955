"""Which gRPC front a server listens with: grpcio, which does everything, or the native one, which is faster."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from runtime.errors import WrongUseError

PACKAGE = "pygrpc-native"
EXTRA = "the extra fast brings one in Rust: pip install 'edgeward[fast]'"


class GrpcFront(StrEnum):
    """What listens for gRPC."""

    AUTO = "auto"
    """`native` where it is installed and can do what is asked, else `grpcio`."""
    NATIVE = "native"
    GRPCIO = "grpcio"


@dataclass(frozen=True, slots=True)
class ChosenFront:
    """The front and why, in a sentence for the first lines of a program."""

    is_native: bool
    reason: str


def choose_front(asked: GrpcFront, *, is_loopback: bool, has_tls: bool) -> ChosenFront:
    """What listens; `WrongUseError` when the native front is asked for and cannot be had."""
    if asked is GrpcFront.GRPCIO:
        return ChosenFront(False, "grpcio: asked for")
    why_not = why_not_native(has_tls=has_tls)
    if asked is GrpcFront.NATIVE:
        if why_not is not None:
            raise WrongUseError(f"--grpc-front native: {why_not}; choose --grpc-front grpcio")
        return ChosenFront(True, f"{_native()}, asked for")
    if why_not is None and not is_loopback:
        # It reads a message of any size before anybody can refuse it, and unpacks it too.
        why_not = "others can reach this server, and the native front has no cap on what it reads"
    if why_not is not None:
        # Nothing is wrong where the extra was never asked for.
        return ChosenFront(False, f"grpcio: {why_not}" if _is_installed() else f"grpcio ({EXTRA})")
    return ChosenFront(True, f"{_native()}; --grpc-front grpcio turns it off")


def why_not_native(*, has_tls: bool) -> str | None:
    """None where the native front is installed and speaks what is asked for."""
    if sys.platform == "win32":
        return "the native front does not run on Windows"
    if not _is_installed():
        return f"{PACKAGE} is not installed (pip install 'edgeward[fast]')"
    return "the native front has no TLS" if has_tls else None


def _is_installed() -> bool:
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return False
    return True


def _native() -> str:
    return (
        f"native ({PACKAGE} {version(PACKAGE)}): ModelInfer in Rust, packed with gzip or not at all (no deflate); "
        "streams and everything else through it by grpcio"
    )
