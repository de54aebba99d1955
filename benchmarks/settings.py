"""What is measured, as values: a model on a target with a backend, and how people write targets and backends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.errors import WrongUseError

INPROC = "inproc"
AUTO = "auto"
ALL = "all"
# Where agent and gateway listen unless told otherwise; both have the same default, on machines of their own.
ADDRESS_OF = {"agent": "grpc://127.0.0.1:8001", "gateway": "grpc://127.0.0.1:8001"}
_PLACE = re.compile(r".+:\d+/?")
_SCHEMES = ("grpc", "grpcs", "http", "https")
_FORMS = (
    "inproc, agent, gateway, grpc://host:port (any server of the Open Inference Protocol), http://host:port, grpcs:// or https:// "
    "(TLS), or LABEL= and one of these"
)


@dataclass(frozen=True, slots=True)
class Access:
    """What servers are shown, and whose certificates are believed."""

    api_key: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """Who signed the certificates of targets with TLS; None: whom the operating system believes."""

    def to_dict(self) -> dict[str, str | None]:
        """The fields in types that `json` writes."""
        return {"api_key": self.api_key, "ca_file": None if self.ca_file is None else str(self.ca_file)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, str | None]) -> Access:
        """What `to_dict` gave."""
        ca_file = fields["ca_file"]
        return cls(fields["api_key"], None if ca_file is None else Path(ca_file))


ANYONE = Access()
"""Of servers that let everybody in."""


@dataclass(frozen=True, slots=True)
class TargetName:
    """A target as people write it, taken apart: what the table calls it and where it answers."""

    label: str
    address: str
    """`inproc`, or a scheme of `grpc`, `grpcs`, `http`, `https` and `://host:port`."""

    @property
    def is_inproc(self) -> bool:
        """Whether the engine runs in the generator's own process."""
        return self.address == INPROC

    @property
    def is_grpc(self) -> bool:
        """Whether it is asked over gRPC; else over REST."""
        return self.address.startswith("grpc")

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted and the server proves who it is."""
        return self.address.startswith(("grpcs:", "https:"))

    @classmethod
    def parse(cls, text: str) -> TargetName:
        """From "inproc", "agent", "gateway", "grpc://host:port" (or grpcs, http, https), or "LABEL=" and one of these."""
        label, equals, address = text.rpartition("=")
        if not equals:
            label, address = text, ADDRESS_OF.get(text, text)
        scheme, _, place = address.partition("://")
        if label and (address == INPROC or (scheme in _SCHEMES and _PLACE.fullmatch(place))):
            return cls(label, address)
        raise WrongUseError(f"target {text!r} is not understood; expected {_FORMS}")


def check_targets(targets: Sequence[str], access: Access) -> None:
    """`WrongUseError` for targets that cannot be meant together.

    Agent and gateway have one default, where one of them listens at most; and whoever gives a CA file expects TLS.
    """
    both = [name for name in ADDRESS_OF if name in targets]
    if len(both) > 1 and len({ADDRESS_OF[name] for name in both}) == 1:
        raise WrongUseError(
            f"targets {' and '.join(both)} both mean {ADDRESS_OF[both[0]]}, where one of them listens at most: start the other on "
            f"ports of its own, such as `edgeward {both[-1]} run --grpc-port 8011 --http-port 8010`, and name it "
            f"{both[-1]}=grpc://127.0.0.1:8011"
        )
    if access.ca_file is not None and not any(TargetName.parse(target).is_secure for target in targets):
        raise WrongUseError(
            f"a CA file ({access.ca_file}) is given, but no target is encrypted: {', '.join(targets)}; write grpcs://host:port or "
            "https://host:port, or leave --ca-file out"
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
