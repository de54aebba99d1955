"""What the process that chooses and its worker say to each other: JSON, one object a line, validated on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from runtime.backends.base import Backend, RunOptions
from runtime.bundle.bare import read_bare_file
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.errors import BundleError
from runtime.selection.bench import Timed, Trial
from runtime.selection.candidates import Candidate
from runtime.selection.guard import GuardResult

MAX_LINE_BYTES = 16 << 20
"""The longest answer holds a turn's call times, some ten thousand of them."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class CandidateName(_Message):
    """A candidate by the names of its parts."""

    variant: str
    backend: str
    threads: int = Field(ge=1)
    extra: dict[str, str]


class Start(_Message):
    """The first line to the worker: which bundle, which backends."""

    do: Literal["start"] = "start"
    root: str
    bare_file: str | None
    name: str
    version: int
    digest: str
    backend_source: str
    seed: int


class TryOut(_Message):
    """`Bench.try_out`."""

    do: Literal["try_out"] = "try_out"
    candidate: CandidateName
    reference: CandidateName | None
    rows: int
    check_s: float


class Check(_Message):
    """`Bench.check`."""

    do: Literal["check"] = "check"
    candidate: CandidateName
    reference: CandidateName | None
    within_s: float


class Time(_Message):
    """`Bench.time`."""

    do: Literal["time"] = "time"
    candidate: CandidateName
    rows: int
    duration_s: float


class Answer(_Message):
    """The worker's line for each one it is sent; `failed` is a reason, and then the rest is absent."""

    failed: str | None = None
    trial: Trial | None = None
    guard: GuardResult | None = None
    timed: Timed | None = None


Request = Annotated[Start | TryOut | Check | Time, Field(discriminator="do")]
REQUEST: TypeAdapter[Start | TryOut | Check | Time] = TypeAdapter(Request)


def name_of(candidate: Candidate) -> CandidateName:
    """`candidate` as it is written."""
    options = candidate.options
    return CandidateName(
        variant=candidate.variant.name,
        backend=candidate.backend.name,
        threads=options.threads,
        extra=dict(options.extra),
    )


def candidate_of(name: CandidateName, bundle: Bundle, backends: dict[str, Backend]) -> Candidate:
    """The candidate with this name; `LookupError` when there is no such variant or backend."""
    variants = {variant.name: variant for variant in bundle.variants}
    return Candidate(variants[name.variant], backends[name.backend], RunOptions(name.threads, name.extra))


def start_of(bundle: Bundle, backend_source: str, seed: int) -> Start:
    """The message that makes another process open the same bundle."""
    return Start(
        root=str(bundle.root.absolute()),
        bare_file=bundle.variants[0].file if bundle.manifest is None else None,
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        backend_source=backend_source,
        seed=seed,
    )


def bundle_of(start: Start) -> Bundle:
    """The bundle that `start` names; `BundleError` when what lies there is another one by now."""
    root = Path(start.root)
    if start.bare_file is None:
        bundle = read_bundle(root)
    else:
        bundle = read_bare_file(root / start.bare_file, start.name, start.version)
    if bundle.digest != start.digest:
        raise BundleError(f"bundle {start.name!r} in {root} was changed while it was measured; load it again")
    return bundle
