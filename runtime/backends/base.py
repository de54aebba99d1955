"""What a backend is: available here (or why not), opened on a variant's file, run, closed.

One contract suite (`tests/runtime/backends`) runs over every implementation. A backend imports its library only in
`open`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runtime.bundle.manifest import Format
from runtime.errors import WrongUseError
from runtime.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from runtime.hardware import Hardware


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a backend runs a variant: what selection may vary."""

    threads: int = 1
    """Compute threads of one call; always set, because engines' own defaults ignore cgroup quotas."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Options of the backend's own, such as {"spinning": "0"}; `Backend.variations` lists those worth trying."""

    def __str__(self) -> str:
        words = [f"{self.threads} thread{'s' if self.threads != 1 else ''}"]
        words += [f"{key}={value}" for key, value in sorted(self.extra.items())]
        return ", ".join(words)


class Overlap(StrEnum):
    """What becomes of two calls that are made at the same time. Both are safe; the question is whether they also run so."""

    SHARED = "shared"
    """They run at the same time in one session."""
    OWN = "own"
    """One session runs one call at a time; two sessions of the file run beside each other."""
    NEVER = "never"
    """One waits for the other, however many sessions there are."""


class Session(Protocol):
    """A variant opened on a backend. `run` may be called from any thread."""

    inputs: tuple[TensorSpec, ...]
    """The variant's own tensors, as the engine reports them."""
    outputs: tuple[TensorSpec, ...]
    overlap: Overlap
    passes_nan: bool
    """Whether the engine was seen to hand NaN on in floats (Relu of NaN is NaN); where it was not, False: then rows with NaN are
    answered with NaN beside it (`nan_rows`). Nobody can tell by trying one model: some operators may, and others not."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, as arrays that stay valid after the next call; `ExecutionError` when the engine fails.

        `inputs` are the variant's own tensors, of the right names, dtypes and shapes (whoever calls sees to that).
        Zero rows give zero rows back, or `ExecutionError` where the engine cannot; never a crash.
        """

    def close(self) -> None:
        """Gives the memory back; `run` must not be called again."""


class Backend(Protocol):
    """An engine on a device."""

    name: str
    """engine-device, such as "onnxruntime-cpu"."""
    device: str
    """"cpu", "cuda", "npu", ..."""
    formats: frozenset[Format]
    """Those of the manifest alone: a closed set, which the digests, conversions and checks of bundles know one by one."""

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """None when it can run here; otherwise one sentence for a person. Imports nothing heavy."""

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """The `RunOptions.extra` worth measuring on this machine; ({},) when there is only one way."""

    def version(self) -> str:
        """The version of the library, as installed; calibrations are kept per version."""

    def open(self, file: Path, options: RunOptions) -> Session:
        """The variant ready to run. `BundleError` when the file is no model of this format, `BackendUnavailableError`
        when the device went away; a foreign exception is wrapped here, keeping its cause.
        """


def check_extra(backend: str, options: RunOptions, known: Mapping[str, tuple[str, ...]]) -> None:
    """`WrongUseError` when `options.extra` asks for what the backend does not have; nothing is ignored in silence."""
    for key, value in options.extra.items():
        if key not in known:
            raise WrongUseError(f"backend {backend!r} has no option {key!r}; it has {', '.join(known) or 'none'}")
        if value not in known[key]:
            raise WrongUseError(
                f"option {key!r} of backend {backend!r} is {value!r}; expected one of {', '.join(known[key])}"
            )
