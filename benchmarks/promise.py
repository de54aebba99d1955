"""A promise about latency, such as p99 <= 50 ms: how people write it, and whether measured requests kept it. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import Values, needed_samples, percentile_name
from runtime.errors import WrongUseError

_FORM = "p99<=50ms (a percentile, and milliseconds or seconds) or 50ms (p99 is meant)"
_SLO = re.compile(r"(?:p(?P<percent>\d+(?:\.\d+)?)\s*<=?\s*)?(?P<bound>\d+(?:\.\d+)?)\s*(?P<unit>ms|s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Slo:
    """A promise about latency: so many of all requests are answered within the bound."""

    share: float
    """0.99 for p99."""
    bound_ms: float

    @classmethod
    def parse(cls, text: str) -> Slo:
        """From "p99<=50ms", "p99.9<=0.2s" or "50ms"; `WrongUseError` otherwise."""
        found = _SLO.fullmatch(text.strip())
        share = round(float(found["percent"] or 99) / 100, 9) if found else 0.0
        bound_ms = float(found["bound"]) * (1000 if found["unit"].lower() == "s" else 1) if found else 0.0
        if not 0 < share < 1 or bound_ms <= 0:
            raise WrongUseError(f"SLO {text!r} is not understood; expected {_FORM}")
        return cls(share, bound_ms)

    def __str__(self) -> str:
        return f"{percentile_name(self.share)} <= {self.bound_ms:g} ms"

    def judge(self, latency_ms: Values, n: int) -> Held:
        """Whether the promise was kept, of `n` requests of which those answered took `latency_ms`.

        A request that was not answered broke it. Kept means at 99 % confidence, by the rule with which LoadGen calls a
        server run VALID: with so many requests over the bound, were there enough in all?
        """
        over = n - int(np.count_nonzero(latency_ms <= self.bound_ms))
        kept = f"{over:,} of {n:,} requests took longer than {self.bound_ms:g} ms or failed"
        if not n or over / n > 1 - self.share:
            return Held(False, f"{kept}: {self} does not hold")
        needed = needed_samples(self.share, over)
        if n < needed:
            return Held(False, f"{kept}: too near the limit to say that {self} holds (that needs n = {needed:,})")
        return Held(True, f"{kept}; {self} holds with 99 % confidence")


@dataclass(frozen=True, slots=True)
class Held:
    """Whether a promise was kept, and the sentence that gives the reason."""

    is_held: bool
    reason: str
