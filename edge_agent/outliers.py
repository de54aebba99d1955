"""Which of several gateways is left out for a while because it does worse than the others. Pure.

The breaker sees a link that is down. This sees a gateway that answers, but with errors or slowly, while another does better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """When a gateway is left out, and for how long. Times in seconds."""

    min_answers: int = 5
    failure_share: float = 0.5
    """Of its answers lately, while another one has at most a fifth of that."""
    slow_factor: float = 3.0
    """Times the median of the fastest."""
    slow_margin_s: float = 0.02
    """Between two fast ones no factor matters."""
    failure_weight: float = 20.0
    """In the order: an error is quickly said, and who says nothing else must not look like the fastest."""
    eject_s: float = 5.0
    eject_growth: float = 2.0
    eject_cap_s: float = 60.0
    jitter: float = 0.2
    """Devices shall not all come back to it at the same moment."""
    max_share: float = 0.5
    """Of the gateways, rounded down: with one gateway nobody is left out."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one gateway did lately."""

    is_permitted: bool
    answers: int
    failure_share: float
    typical_s: float | None
    in_flight: int


class Outliers:
    """The ejections among a fixed number of gateways; used from one thread. `random` gives numbers in [0, 1)."""

    def __init__(self, count: int, settings: OutlierSettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._until = [0.0] * count
        self._times = [0] * count
        self._reasons = [""] * count
        self._is_out = [False] * count

    def reason(self, index: int, now: float) -> str:
        """Why this one is left out at `now`; empty when it is not."""
        return self._reasons[index] if now < self._until[index] else ""

    def back(self, now: float) -> list[int]:
        """Who is in service again since the last call: to be judged by what it does from now on."""
        found = [index for index, is_out in enumerate(self._is_out) if is_out and now >= self._until[index]]
        for index in found:
            self._is_out[index] = False
        return found

    def review(self, standings: Sequence[Standing], now: float) -> list[tuple[int, str]]:
        """Leaves out who has earned it, and says whom and why; never more than `max_share` at once."""
        out = sum(now < until for until in self._until)
        ejected = []
        for index, standing in enumerate(standings):
            if now < self._until[index]:
                continue
            if out >= int(len(standings) * self._settings.max_share):
                break
            others = [
                other
                for place, other in enumerate(standings)
                if place != index and other.is_permitted and now >= self._until[place]
            ]
            why = self._why(standing, others)
            if why:
                self._eject(index, why, now)
                out += 1
                ejected.append((index, why))
            elif standing.answers >= self._settings.min_answers:
                self._times[index] = 0
        return ejected

    def order(self, standings: Sequence[Standing], now: float) -> list[int]:
        """Whom to ask, best first: those in service by how long an answer takes with what is under way there.

        Who is left out comes last, and only when it is permitted: better than nobody.
        """
        known = [standing.typical_s for standing in standings if standing.typical_s is not None]
        usual_s = min(known, default=0.0)  # an unknown one counts as the best: it must be asked to be known

        def cost(index: int) -> tuple[bool, float]:
            standing = standings[index]
            typical_s = usual_s if standing.typical_s is None else standing.typical_s
            errs = 1 + self._settings.failure_weight * standing.failure_share
            return now < self._until[index], (typical_s + 1e-6) * (standing.in_flight + 1) * errs

        return sorted((index for index, standing in enumerate(standings) if standing.is_permitted), key=cost)

    def _eject(self, index: int, why: str, now: float) -> None:
        settings = self._settings
        for_s = min(settings.eject_s * settings.eject_growth ** self._times[index], settings.eject_cap_s)
        self._times[index] = min(self._times[index] + 1, 16)
        self._until[index] = now + for_s * (1 - settings.jitter * self._random())
        self._reasons[index] = why
        self._is_out[index] = True

    def _why(self, one: Standing, others: Sequence[Standing]) -> str:
        settings = self._settings
        known = [other for other in others if other.answers >= settings.min_answers]
        if not known or one.answers < settings.min_answers:
            return ""
        best_share = min(other.failure_share for other in known)
        if one.failure_share >= settings.failure_share and best_share <= one.failure_share / 5:
            return f"{one.failure_share:.0%} of its answers are errors, of another's {best_share:.0%}"
        fastest_s = min((other.typical_s for other in known if other.typical_s is not None), default=None)
        if one.typical_s is None or fastest_s is None:
            return ""
        if one.typical_s > max(fastest_s * settings.slow_factor, fastest_s + settings.slow_margin_s):
            return f"it takes {one.typical_s * 1e3:.3g} ms, another {fastest_s * 1e3:.3g} ms"
        return ""
