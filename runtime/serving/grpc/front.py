"""Which gRPC front listens: ours on the event loop, the native one, or grpcio where others can reach it."""

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
    """On this machine alone and without TLS `native` where it is installed, else `asyncio`; where others can reach it `grpcio`."""
    NATIVE = "native"
    ASYNCIO = "asyncio"
    GRPCIO = "grpcio"


@dataclass(frozen=True, slots=True)
class ChosenFront:
    """The front and why, in a sentence for the first lines of a program."""

    front: GrpcFront
    reason: str


def choose_front(asked: GrpcFront, *, is_loopback: bool, has_tls: bool) -> ChosenFront:
    """What listens; `WrongUseError` when a front is asked for and cannot be had."""
    match asked:
        case GrpcFront.GRPCIO:
            return ChosenFront(asked, "grpcio: asked for")
        case GrpcFront.NATIVE:
            _require(asked, why_not_native(has_tls=has_tls))
            return ChosenFront(asked, f"{_native()}, asked for")
        case GrpcFront.ASYNCIO:
            _require(asked, why_not_asyncio(has_tls=has_tls))
            return ChosenFront(asked, "asyncio: asked for")
        case _:
            return _choose(is_loopback=is_loopback, has_tls=has_tls)


def _choose(*, is_loopback: bool, has_tls: bool) -> ChosenFront:
    if has_tls:
        return ChosenFront(GrpcFront.GRPCIO, "grpcio: the other fronts have no TLS")
    if not is_loopback:
        # Ours is young, and the native one reads a message of any size before anybody can refuse it, and unpacks it too.
        return ChosenFront(
            GrpcFront.GRPCIO, "grpcio: others can reach this server, and it has met the open network for years"
        )
    if why_not_native(has_tls=False) is None:
        return ChosenFront(
            GrpcFront.NATIVE, f"{_native()}; --grpc-front asyncio, which mostly answers more on two cores, turns it off"
        )
    # Nothing is wrong where the extra was never asked for.
    return ChosenFront(GrpcFront.ASYNCIO, f"asyncio ({EXTRA})")


def why_not_native(*, has_tls: bool) -> str | None:
    """None where the native front is installed and speaks what is asked for."""
    if sys.platform == "win32":
        return "the native front does not run on Windows"
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return f"{PACKAGE} is not installed (pip install 'edgeward[fast]')"
    return "the native front has no TLS" if has_tls else None


def why_not_asyncio(*, has_tls: bool) -> str | None:
    """None where our own front speaks what is asked for."""
    return "the front on asyncio has no TLS" if has_tls else None


def _require(asked: GrpcFront, why_not: str | None) -> None:
    if why_not is not None:
        raise WrongUseError(f"--grpc-front {asked}: {why_not}; choose --grpc-front grpcio")


def _native() -> str:
    return (
        f"native ({PACKAGE} {version(PACKAGE)}): ModelInfer in Rust, packed with gzip or not at all (no deflate); "
        "streams and everything else through it by grpcio"
    )
