"""The four scenarios as values: who sends how many rows when, and when to stop.

The names are MLPerf's (SingleStream, MultiStream, Server, Offline); the rules are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from benchmarks.arrivals import Arrivals
from runtime.errors import WrongUseError

DEFAULT_DURATION_S = 5.0
DEFAULT_WARM_UP_S = 0.5
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_MULTI_ROWS = 8
DEFAULT_OFFLINE_ROWS = 32
# Requests in flight at most. Offline: enough to keep the server's batcher and a core or two busy. Server: far more than a
# server that keeps up ever has, so that the loop stays open; threads of the generator, so not without end.
DEFAULT_OFFLINE_IN_FLIGHT = 4
DEFAULT_SERVER_IN_FLIGHT = 64
# In the default duration 750 requests, more than the 662 that a p99 needs (`statistics.needed_samples`).
DEFAULT_ARRIVALS = "poisson:150"


class Kind(StrEnum):
    """Which scenario."""

    SINGLE = "single"
    MULTI = "multi"
    SERVER = "server"
    OFFLINE = "offline"

    @property
    def shape(self) -> Shape:
        """What is its own."""
        return SHAPES[self]


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a scenario this one and no other; None: a person cannot choose it."""

    loadgen_name: str
    """MLPerf's."""
    rows: int | None = None
    """Rows a request, unless a person says; None: one."""
    in_flight: int | None = None
    """Requests in flight at most, unless a person says; None: one."""
    arrivals: str | None = None
    """When requests are due, unless a person says; None: a closed loop."""

    @property
    def is_open_loop(self) -> bool:
        """Whether requests go when they are due, whatever became of those before."""
        return self.arrivals is not None


SHAPES: Final[Mapping[Kind, Shape]] = {
    Kind.SINGLE: Shape("SingleStream"),
    Kind.MULTI: Shape("MultiStream", rows=DEFAULT_MULTI_ROWS),
    Kind.SERVER: Shape("Server", in_flight=DEFAULT_SERVER_IN_FLIGHT, arrivals=DEFAULT_ARRIVALS),
    Kind.OFFLINE: Shape("Offline", rows=DEFAULT_OFFLINE_ROWS, in_flight=DEFAULT_OFFLINE_IN_FLIGHT),
}
"""A record a scenario."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a target is asked. `to_dict` and `from_dict` carry it to another process and into saved results."""

    kind: Kind
    rows: int = 1
    """Rows a request."""
    in_flight: int = 1
    """Requests in flight at once, at most."""
    arrivals: Arrivals | None = None
    """When requests are due; None is a closed loop: the next one goes when an answer came."""
    duration_s: float = DEFAULT_DURATION_S
    requests: int | None = None
    """Stop after so many; None: after `duration_s`."""
    warm_up_s: float = DEFAULT_WARM_UP_S
    """Asked one at a time before the measurement; not in the samples."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """The deadline of one request."""
    seed: int = 1
    give_up_s: float | None = None
    """Of open loops: end when requests wait so long to be sent, the target being that far behind; None: never."""
    bound_ms: float | None = None
    """With `most_over`: end when more requests than that took longer, or failed; None: never."""
    most_over: int = 0

    def __post_init__(self) -> None:
        for what, value, least in (
            ("rows", self.rows, 1),
            ("requests in flight", self.in_flight, 1),
            ("requests", self.requests, 1),
            ("warm-up in seconds", self.warm_up_s, 0),
        ):
            if value is not None and value < least:
                raise WrongUseError(f"scenario {self.kind}: {what} are {value:g}; expected {least} or more")
        for what, seconds in (("duration", self.duration_s), ("timeout", self.timeout_s)):
            if not 0 < seconds < math.inf:
                raise WrongUseError(f"scenario {self.kind}: the {what} is {seconds:g} s; expected more than 0")

    @property
    def is_open_loop(self) -> bool:
        """Whether requests go when they are due, whatever became of those before."""
        return self.arrivals is not None

    def __str__(self) -> str:
        words = [str(self.kind)]
        if self.arrivals is not None:
            words.append(str(self.arrivals))
        if self.rows > 1:
            words.append(f"{self.rows} rows")
        if self.in_flight > 1 and self.arrivals is None:
            words.append(f"{self.in_flight} in flight")
        return " ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that `json` writes."""
        return {
            "kind": self.kind.value,
            "rows": self.rows,
            "in_flight": self.in_flight,
            "arrivals": None if self.arrivals is None else str(self.arrivals),
            "duration_s": self.duration_s,
            "requests": self.requests,
            "warm_up_s": self.warm_up_s,
            "timeout_s": self.timeout_s,
            "seed": self.seed,
            "give_up_s": self.give_up_s,
            "bound_ms": self.bound_ms,
            "most_over": self.most_over,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Scenario:
        """What `to_dict` gave."""
        arrivals = fields["arrivals"]
        own = {
            **fields,
            "kind": Kind(fields["kind"]),
            "arrivals": None if arrivals is None else Arrivals.parse(arrivals),
        }
        return cls(**own)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person may say about all scenarios of a run; None: the scenario's own default."""

    duration_s: float = DEFAULT_DURATION_S
    requests: int | None = None
    rows: int | None = None
    in_flight: int | None = None
    arrivals: Arrivals | None = None
    warm_up_s: float = DEFAULT_WARM_UP_S
    timeout_s: float = DEFAULT_TIMEOUT_S
    seed: int = 1


def kind_of(name: str) -> Kind:
    """The scenario called `name`; `WrongUseError` for an unknown one."""
    try:
        return Kind(name)
    except ValueError:
        raise WrongUseError(f"unknown scenario {name!r}; expected one of {', '.join(Kind)}") from None


def plan(name: str, wishes: Wishes = Wishes()) -> Scenario:
    """The scenario called `name` with a person's wishes; `WrongUseError` for an unknown name."""
    kind = kind_of(name)
    shape = kind.shape
    return Scenario(
        kind,
        1 if shape.rows is None else _or(wishes.rows, shape.rows),
        1 if shape.in_flight is None else _or(wishes.in_flight, shape.in_flight),
        None if shape.arrivals is None else wishes.arrivals or Arrivals.parse(shape.arrivals),
        wishes.duration_s,
        wishes.requests,
        wishes.warm_up_s,
        wishes.timeout_s,
        wishes.seed,
    )


def check_used(names: Sequence[str], wishes: Wishes) -> None:
    """`WrongUseError` for a wish that none of the scenarios called `names` looks at."""
    for flag, wish, kinds in (
        ("--arrivals", wishes.arrivals, [kind for kind in Kind if kind.shape.arrivals is not None]),
        ("--rows", wishes.rows, [kind for kind in Kind if kind.shape.rows is not None]),
        ("--in-flight", wishes.in_flight, [kind for kind in Kind if kind.shape.in_flight is not None]),
    ):
        if wish is not None and not set(kinds) & set(names):
            raise WrongUseError(
                f"{flag} {wish} is of {' and '.join(kinds)}, and what is measured is {', '.join(names)}: add --scenario "
                f"{kinds[0]}, or leave {flag} out"
            )


def _or(wish: int | None, default: int) -> int:
    """The wish, where there is one: 0 is one, and a wrong one."""
    return default if wish is None else wish
