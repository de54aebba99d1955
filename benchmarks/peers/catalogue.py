"""The servers that ours is compared with: what is installed, and what each one is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.exchange import Exchange, Row, grpc_exchange, plain_json_exchange

# The engine's version that was current for all of them; ours runs on whatever is installed with it.
ENGINE = "onnxruntime==1.32.0"


@dataclass(frozen=True, slots=True)
class Peer:
    """One server of other people."""

    name: str
    requirements: tuple[str, ...]
    """Exact versions, so that a table can be made again."""
    exchange: Callable[[Row], Exchange]
    uses_grpc_port: bool
    identity: Callable[[Row], Exchange] | None = None
    """The same for the identity model, where the peer's program serves it too."""
    is_restless: bool = False
    """Cannot be suspended while others are measured: started anew for each round."""
    folder: Path = Path(__file__).parent

    @property
    def script(self) -> Path:
        """The program that serves, for the peer's own environment."""
        return self.folder / f"{self.name}_server.py"


def _grpc(row: Row) -> Exchange:
    return grpc_exchange("digits", row)


def _identity(row: Row) -> Exchange:
    return grpc_exchange("identity", row)


def _json(row: Row) -> Exchange:
    return plain_json_exchange("/predict", row)


PEERS: Sequence[Peer] = (
    Peer("mlserver", ("mlserver==1.7.1", ENGINE), _grpc, uses_grpc_port=True, identity=_identity),
    Peer("kserve", ("kserve==0.21.0", ENGINE), _grpc, uses_grpc_port=True, identity=_identity),
    Peer("litserve", ("litserve==0.2.19", ENGINE), _json, uses_grpc_port=False),
    Peer("bentoml", ("bentoml==1.4.39", ENGINE), _json, uses_grpc_port=False, is_restless=True),
    Peer("ray_serve", ("ray[serve]==2.60.0", ENGINE), _json, uses_grpc_port=False, is_restless=True),
    Peer("pytriton", ("nvidia-pytriton==0.7.0", ENGINE), _grpc, uses_grpc_port=True),
)
