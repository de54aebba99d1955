"""Targets in this process: what Edgeward chooses here, or one variant on one backend. Imports the engine; servers do without."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bundles import newest
from benchmarks.settings import BackendName
from benchmarks.target import Answer, Description, Origin, Target
from runtime.backends.base import RunOptions
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.backends.registry import all_backends
from runtime.bundle.bundle import Bundle
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.errors import WrongUseError
from runtime.hardware import Hardware, probe
from runtime.selection.candidates import Candidate, enumerate_candidates
from runtime.tensors import Array


def inproc_target(source: str, wanted: BackendName) -> Target:
    """What is chosen where `wanted` says nothing; `WrongUseError` where that cannot run here."""
    if wanted == BackendName():
        return ChosenTarget(source)
    bundle = newest(source)
    return ForcedTarget(bundle, _candidate(bundle, wanted))


class ChosenTarget:
    """In process, the variant and backend that Edgeward chooses for this machine: `edgeward.load(...).predict`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._model: Model | None = None
        self._seen: Candidate | None = None
        self._origin = Origin("edge", "")

    def open(self) -> None:
        """Loads the model; the first time on a machine that measures for a few seconds."""
        self._model = load(self._source)

    def infer(self, inputs: Mapping[str, Array]) -> Answer:
        """One `predict`."""
        assert self._model is not None
        outputs = self._model.predict(inputs)
        if self._model.candidate is not self._seen:  # the first time, or another one took over
            self._seen = self._model.candidate
            self._origin = Origin("edge", self._model.serving)
        return Answer(self._origin, outputs)

    def describe(self) -> Description:
        """The model and what was chosen."""
        assert self._model is not None
        model = self._model
        digests = {"bundle": model.bundle.digest, "variant": model.candidate.variant.sha256}
        return Description(model.name, str(model.version), model.inputs, "", model.serving, digests)

    def close(self) -> None:
        """Unloads the model."""
        if self._model is not None:
            self._model.close()


class ForcedTarget:
    """In process, one variant on one backend, opened as the engine opens it; nothing is chosen, no floor is held."""

    def __init__(self, bundle: Bundle, candidate: Candidate) -> None:
        self._bundle = bundle
        self._candidate = candidate
        self._origin = Origin("edge", str(candidate))
        self._opened: OpenedVariant | None = None

    def open(self) -> None:
        """Opens the variant."""
        candidate = self._candidate
        self._opened = open_variant(self._bundle, candidate.variant, candidate.backend, candidate.options)

    def infer(self, inputs: Mapping[str, Array]) -> Answer:
        """One call of the opened variant."""
        assert self._opened is not None
        return Answer(self._origin, self._opened.predict(inputs))

    def describe(self) -> Description:
        """The bundle and the variant."""
        assert self._opened is not None
        digests = {"bundle": self._bundle.digest, "variant": self._candidate.variant.sha256}
        return Description(
            self._bundle.name, str(self._bundle.version), self._opened.inputs, "", str(self._candidate), digests
        )

    def close(self) -> None:
        """Gives the engine's memory back."""
        if self._opened is not None:
            self._opened.close()


def backends_of(model: str, hardware: Hardware | None = None) -> list[str]:
    """Every variant × backend × threads that can run `model` here, as `BackendName.parse` reads them."""
    candidates, _ = enumerate_candidates(newest(model), hardware or probe(), all_backends())
    return list(
        dict.fromkeys(
            f"{c.variant.name}@{c.backend.name}/{c.options.threads}" for c in candidates if not c.options.extra
        )
    )


def left_out(model: str, hardware: Hardware | None = None) -> list[str]:
    """The backends that read a variant of `model` and cannot run it here, each with the reason."""
    _, rejected = enumerate_candidates(newest(model), hardware or probe(), all_backends())
    return list(dict.fromkeys(f"{one.backend}: {one.reason}" for one in rejected if not one.is_misfit))


def _candidate(bundle: Bundle, wanted: BackendName) -> Candidate:
    """The first candidate that fits, with all allowed threads unless `wanted` says how many."""
    hardware = probe()
    backends = (wanted.backend,) if wanted.backend else ()
    variants = (wanted.variant,) if wanted.variant else ()
    candidates, rejected = enumerate_candidates(bundle, hardware, all_backends(), backends, variants)
    threads = wanted.threads or hardware.cores.threads
    for candidate in candidates:
        if not candidate.options.extra:
            return Candidate(candidate.variant, candidate.backend, RunOptions(threads))
    asked = [r for r in rejected if r.backend == wanted.backend and wanted.variant in (None, r.variant)]
    raise WrongUseError(
        f"{bundle.name!r} cannot run on {wanted.backend!r} here: {'; '.join(map(str, asked)) or 'no variant fits it'}"
    )
