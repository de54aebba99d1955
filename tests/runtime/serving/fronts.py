"""The gRPC fronts, for tests that hold each of them to the same."""

from runtime.serving.grpc.front import why_not_native

FRONTS = ("asyncio", "native", "grpcio")


def why_not(front: str) -> str | None:
    """None where it can be had here."""
    return why_not_native(has_tls=False) if front == "native" else None


def at_hand() -> list[str]:
    return [front for front in FRONTS if why_not(front) is None]
