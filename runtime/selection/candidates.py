"""Which variant could run on which backend, how; and for every pair that cannot, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runtime.backends.base import Backend, RunOptions
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Variant
from runtime.errors import WrongUseError

if TYPE_CHECKING:
    from runtime.hardware import Hardware

CPU: Final = "cpu"
CUDA: Final = "cuda"
SPINNING: Final = "spinning"
"""An option that concerns worker threads: one thread has none, and would be measured twice."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant on a backend with options: what is measured, chosen and served."""

    variant: Variant
    backend: Backend
    options: RunOptions

    @property
    def key(self) -> str:
        """Unique among the candidates of a bundle, and fit to be read: "fp32.onnx on onnxruntime-cpu, 1 thread"."""
        return f"{self.variant.name} on {self.backend.name}, {self.options}"

    @property
    def pair(self) -> tuple[str, str]:
        """Variant and backend by name, without the options."""
        return self.variant.name, self.backend.name

    @property
    def computes(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """What decides the numbers that come out: neither threads nor whether they spin."""
        extra = {key: value for key, value in self.options.extra.items() if key != SPINNING}
        return (*self.pair, tuple(sorted(extra.items())))

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True, slots=True)
class Rejected:
    """What is not used, and why; `options` is None when the whole pair of variant and backend is out."""

    variant: str
    backend: str
    reason: str
    options: str | None = None
    is_misfit: bool = False
    """Whether the backend does not even read the variant's format: true of many pairs and of no interest to most."""

    def __str__(self) -> str:
        options = f", {self.options}" if self.options else ""
        return f"{self.variant} on {self.backend}{options}: {self.reason}"


def rejected_because(candidate: Candidate, reason: str) -> Rejected:
    """`candidate` as one that is not used."""
    return Rejected(candidate.variant.name, candidate.backend.name, reason, str(candidate.options))


def enumerate_candidates(
    bundle: Bundle,
    hardware: Hardware,
    backends: Sequence[Backend],
    only_backends: Sequence[str] = (),
    only_variants: Sequence[str] = (),
    max_threads: int | None = None,
) -> tuple[list[Candidate], list[Rejected]]:
    """Every way to run `bundle` here, in the order of variants, backends and threads; and every pair that cannot run.

    `max_threads` is of one call on the processor. Pairs that can never run (the backend does not read the format) come
    last. `WrongUseError` for an unknown filter.
    """
    _check_filter("backend", only_backends, [b.name for b in backends])
    _check_filter("variant", only_variants, [v.name for v in bundle.variants])
    why_not = {b.name: _why_not(b, hardware, only_backends) for b in backends}
    most = hardware.cores.threads if max_threads is None else min(max_threads, hardware.cores.threads)
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    misfits: list[Rejected] = []
    for variant in bundle.variants:
        for backend in backends:
            if variant.format not in backend.formats:
                reads = ", ".join(sorted(backend.formats))
                reason = f"it reads {reads}, not {variant.format}"
                misfits.append(Rejected(variant.name, backend.name, reason, is_misfit=True))
                continue
            reason_here = why_not[backend.name]
            if only_variants and variant.name not in only_variants:
                reason_here = f"left out: only {', '.join(only_variants)} was asked for"
            if reason_here is not None:
                rejected.append(Rejected(variant.name, backend.name, reason_here))
                continue
            candidates += [Candidate(variant, backend, options) for options in _options(backend, hardware, most)]
    return candidates, rejected + misfits


def thread_counts(allowed: int) -> tuple[int, ...]:
    """The thread counts worth measuring: one, half and all of the allowed cores, each once, ascending."""
    return tuple(sorted({1, max(1, allowed // 2), max(1, allowed)}))


def _options(backend: Backend, hardware: Hardware, allowed: int) -> list[RunOptions]:
    # Off the processor threads only feed the device: one setting is enough.
    threads = thread_counts(allowed) if backend.device == CPU else (max(1, allowed),)
    return [
        RunOptions(count, dict(extra))
        for extra in backend.variations(hardware)
        for count in threads
        if count > 1 or SPINNING not in extra
    ]


def _why_not(backend: Backend, hardware: Hardware, only: Sequence[str]) -> str | None:
    if only and backend.name not in only:
        return f"left out: only {', '.join(only)} was asked for"
    return backend.unavailable_reason(hardware)


def _check_filter(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise WrongUseError(f"unknown {what} {unknown[0]!r}; expected one of {', '.join(known)}")
