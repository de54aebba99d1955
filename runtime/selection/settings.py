"""What a caller asks of selection: objective, budget, floor, cap, filters."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.bundle.objective import Objective as Objective
from runtime.errors import WrongUseError

REGISTRY = "runtime.backends.registry:all_backends"


@dataclass(frozen=True, slots=True)
class SelectionSettings:
    """How one model's variant, backend and options are chosen."""

    budget_s: float = 3.0
    """For trying, checking and measuring the candidates of one model; loading engines comes on top. Beyond it go
    the first looks at two candidates, some rounds and the check of a few answers where a large model takes so long."""
    objective: Objective | None = None
    """In place of the manifest's `targets.objective`."""
    usual_objective: Objective = Objective.LATENCY
    """Where neither `objective` nor the manifest says; of a program that serves: `Objective.EFFICIENCY`."""
    accuracy_floor: float | None = None
    """In place of the manifest's `targets.accuracy_floor`."""
    agreement_floor: float | None = None
    """In place of the manifest's `targets.agreement_floor`."""
    memory_cap_mb: float | None = None
    """In place of the manifest's `targets.memory_mb`: what a candidate's memory may grow by."""
    p95_ms: float | None = None
    """In place of the manifest's `targets.p95_latency_ms`: candidates within it come first."""
    rows_per_s: float | None = None
    """In place of the manifest's `targets.throughput_rows_per_s`."""
    isolate: bool = True
    """Candidates run in a process of their own, so that a crash, a hang or a hunger for memory costs only them."""
    backends: tuple[str, ...] = ()
    """Only these; empty: all."""
    variants: tuple[str, ...] = ()
    """Only these; empty: all."""
    threads: int | None = None
    """Of one call on the processor, at most; None: as many as cores are allowed here."""
    seed: int = 0
    """Of the order of measuring and of random rows."""
    refresh: bool = False
    """Measure although the cache has an entry."""
    trial_timeout_s: float = 30.0
    """For opening a candidate and checking its answers; generous, since only a hang should meet it."""
    trial_memory_mb: float | None = None
    """At which growth a candidate's process is ended; absent: four fifths of the memory available now."""
    backend_source: str = REGISTRY
    """`module:callable` from which the separate process takes its backends."""

    def __post_init__(self) -> None:
        for name, value in (("budget_s", self.budget_s), ("trial_timeout_s", self.trial_timeout_s)):
            if not value > 0:
                raise WrongUseError(f"{name} is {value}; expected a number of seconds above 0")
        for name, megabytes in (("memory_cap_mb", self.memory_cap_mb), ("trial_memory_mb", self.trial_memory_mb)):
            if megabytes is not None and not megabytes > 0:
                raise WrongUseError(f"{name} is {megabytes}; expected a number of megabytes above 0")
        for name, wished in (("p95_ms", self.p95_ms), ("rows_per_s", self.rows_per_s)):
            if wished is not None and not wished > 0:
                raise WrongUseError(f"{name} is {wished}; expected a number above 0")
        if self.threads is not None and self.threads < 1:
            raise WrongUseError(f"threads is {self.threads}; expected a whole number of at least 1")
        for name, share in (("accuracy_floor", self.accuracy_floor), ("agreement_floor", self.agreement_floor)):
            if share is not None and not 0 <= share <= 1:
                raise WrongUseError(f"{name} is {share}; expected a share from 0 to 1, such as 0.97")
