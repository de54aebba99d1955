"""When requests are due: open-loop arrivals as pure functions of a pattern, a duration and a seed.

Every pattern is a rate over time. Its integral counts the requests due until t, so request n is due where the integral
reaches n: evenly for a constant, ramp or step pattern; at random for Poisson, whose gaps are exponential (MLPerf LoadGen's
server scenario schedules the same way). A trace file says the times itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.errors import WrongUseError

Times = npt.NDArray[np.int64]
"""Nanoseconds after the start, not decreasing."""

# A generator in Python sends a few thousand requests a second at best; beyond this a plan is a slip of the keyboard.
MAX_ARRIVALS = 20_000_000
_FORMS = "poisson:RATE, constant:RATE, ramp:FROM-TO, step:RATE,RATE,... (requests a second) or trace:FILE (seconds, one a line)"


class Pattern(StrEnum):
    """How the rate of arrivals goes over time."""

    POISSON = "poisson"
    CONSTANT = "constant"
    RAMP = "ramp"
    STEP = "step"
    TRACE = "trace"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A pattern with its rates in requests a second, or the file of a trace; `str()` gives back what `parse` reads."""

    pattern: Pattern
    rates: tuple[float, ...] = ()
    """poisson, constant: one; ramp: the first and the last; step: one for each of the equal steps."""
    trace: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Arrivals:
        """From "poisson:200", "constant:200", "ramp:50-400", "step:100,200,400" or "trace:FILE"; `WrongUseError` otherwise."""
        kind, colon, rest = text.partition(":")
        try:
            pattern = Pattern(kind)
            if pattern is Pattern.TRACE and rest:
                return cls(pattern, trace=Path(rest))
            sign = {Pattern.RAMP: "-", Pattern.STEP: ","}.get(pattern, "\0")
            rates = tuple(float(word) for word in rest.split(sign))
        except ValueError:
            raise _not_understood(text) from None
        wanted = {Pattern.RAMP: 2, Pattern.STEP: len(rates)}.get(pattern, 1)
        if not colon or len(rates) != wanted or not all(0 <= rate < math.inf for rate in rates) or max(rates) == 0:
            raise _not_understood(text)
        return cls(pattern, rates)

    def __str__(self) -> str:
        if self.pattern is Pattern.TRACE:
            return f"trace:{self.trace}"
        sign = "-" if self.pattern is Pattern.RAMP else ","
        # Every digit, and no exponent, whose sign would be one of a ramp.
        return f"{self.pattern}:{sign.join(np.format_float_positional(rate, trim='-') for rate in self.rates)}"

    def times(self, duration_s: float, seed: int) -> Times:
        """When each request is due within `duration_s`; the same arguments give the same times.

        A trace keeps its own times and is cut at `duration_s`. `WrongUseError` when nothing would be due.
        """
        if self.pattern is Pattern.TRACE:
            due_s = _read_trace(self.trace or Path())
        else:
            segments = self._segments(duration_s)
            expected = sum((a + b) / 2 * length for a, b, length in segments)
            if expected > MAX_ARRIVALS:
                raise WrongUseError(
                    f"arrivals {self} for {duration_s:g} s are {expected:.3g} requests; at most {MAX_ARRIVALS}"
                )
            due_s = _reach(_counts(expected, seed if self.pattern is Pattern.POISSON else None), segments)
        due_s = due_s[due_s < duration_s]
        if not len(due_s):
            raise WrongUseError(
                f"arrivals {self} bring no request within {duration_s:g} s; raise the rate or the duration"
            )
        return np.round(due_s * 1e9).astype(np.int64)

    def _segments(self, duration_s: float) -> list[tuple[float, float, float]]:
        """(rate at its start, rate at its end, seconds) of each stretch in which the rate goes along a straight line."""
        if self.pattern is Pattern.RAMP:
            return [(self.rates[0], self.rates[1], duration_s)]
        return [(rate, rate, duration_s / len(self.rates)) for rate in self.rates]


def _counts(expected: float, seed: int | None) -> npt.NDArray[np.float64]:
    """What the integral of the rate has reached at each request: 0, 1, 2, ... or, with a seed, a Poisson process of rate 1."""
    if seed is None:
        return np.arange(math.ceil(expected), dtype=np.float64)
    # Six standard deviations more than expected: a draw that ends early is one in a billion, and then only ends early.
    size = math.ceil(expected + 6 * math.sqrt(expected) + 10)
    return np.cumsum(np.random.default_rng(seed).exponential(1.0, size))


def _reach(counts: npt.NDArray[np.float64], segments: list[tuple[float, float, float]]) -> npt.NDArray[np.float64]:
    """The times at which the integral of the rate reaches each of `counts`; those past the last segment are left out."""
    parts = []
    start_s = reached = 0.0
    for first, last, length_s in segments:
        inside = counts[(counts >= reached) & (counts < reached + (first + last) / 2 * length_s)] - reached
        slope = (last - first) / length_s
        # first·t + slope·t²/2 = count, solved in the form that loses no digits when the slope is small.
        root = np.sqrt(np.maximum(first * first + 2 * slope * inside, 0))
        parts.append(start_s + np.divide(2 * inside, first + root, out=np.zeros_like(inside), where=inside > 0))
        start_s += length_s
        reached += (first + last) / 2 * length_s
    return np.concatenate(parts)


def _read_trace(file: Path) -> npt.NDArray[np.float64]:
    try:
        words = file.read_text(encoding="utf-8").split()
        times = np.array([float(word) for word in words], dtype=np.float64)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise WrongUseError(
            f"trace {file} cannot be read: {error}; expected seconds after the start, one a line"
        ) from error
    if len(times) > MAX_ARRIVALS or not np.all(np.isfinite(times)) or np.any(times < 0) or np.any(np.diff(times) < 0):
        raise WrongUseError(
            f"trace {file} is out of order, negative or too long; expected rising seconds after the start, one a line"
        )
    return times


def _not_understood(text: str) -> WrongUseError:
    return WrongUseError(f"arrivals {text!r} are not understood; expected {_FORMS}")
