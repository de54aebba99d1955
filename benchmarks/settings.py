"""What is measured, as values: a model on a target with a backend, and how people write targets and backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runtime.errors import WrongUseError

INPROC = "inproc"
AUTO = "auto"
ALL = "all"
# Where agent and gateway listen unless told otherwise; both have the same default, on machines of their own.
ADDRESS_OF = {"agent": "grpc://127.0.0.1:8001", "gateway": "grpc://127.0.0.1:8001"}
_SCHEMES = ("grpc", "http")


@dataclass(frozen=True, slots=True)
class TargetName:
    """A target as people write it, taken apart: what the table calls it and where it answers."""

    label: str
    address: str
    """`inproc`, `grpc://host:port` or `http://host:port`."""

    @property
    def is_inproc(self) -> bool:
        """Whether the engine runs in the generator's own process."""
        return self.address == INPROC

    @classmethod
    def parse(cls, text: str) -> TargetName:
        """From "inproc", "agent", "gateway", "grpc://host:port", "http://host:port" or "LABEL=" and one of these."""
        label, equals, address = text.rpartition("=")
        if not equals:
            label, address = text, ADDRESS_OF.get(text, text)
        scheme, found, _ = address.partition("://")
        if label and (address == INPROC or (found and scheme in _SCHEMES)):
            return cls(label, address)
        raise WrongUseError(
            f"target {text!r} is not understood; expected inproc, agent, gateway, grpc://host:port (any server of the Open "
            "Inference Protocol), http://host:port, or LABEL=grpc://host:port"
        )


@dataclass(frozen=True, slots=True)
class BackendName:
    """A backend as people write it: variant, backend and threads, each of which may be left open (None)."""

    variant: str | None = None
    backend: str | None = None
    threads: int | None = None

    @classmethod
    def parse(cls, text: str) -> BackendName:
        """From "auto", "onnxruntime-cpu", "int8.tflite@litert" or, with the threads, "fp32.onnx@onnxruntime-cpu/1"."""
        if text == AUTO:
            return cls()
        rest, slash, threads = text.partition("/")
        variant, at, backend = rest.rpartition("@")
        if not backend or (at and not variant) or (slash and not (threads.isdecimal() and int(threads) > 0)):
            raise WrongUseError(
                f"backend {text!r} is not understood; expected auto, all, BACKEND or VARIANT@BACKEND/THREADS"
            )
        return cls(variant or None, backend, int(threads) if slash else None)


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the matrix, but for the scenario."""

    model: str
    """A bundle or model file, or the name of a bundle that ships; for a remote target also any name it serves."""
    target: str
    """As written: see `TargetName`."""
    backend: str = AUTO
    """As written: see `BackendName`. Only in process: a server chooses for itself."""

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that `json` writes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Setting:
        """What `to_dict` gave."""
        return cls(**fields)

    def __str__(self) -> str:
        words = f"{self.model} on {TargetName.parse(self.target).label}"
        return words if self.backend == AUTO else f"{words} with {self.backend}"
