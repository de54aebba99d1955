"""Whether latencies of what was answered may be judged although other requests failed. Pure functions.

A server that refuses nine requests of ten answers the tenth sooner: its latencies are of another load than the one that was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.statistics import percentile_name

Errors = Mapping[str, int]
"""How many requests failed, by code."""

NO_ERRORS: Final[tuple[Errors, Errors]] = ({}, {})
# Of all requests sent. Load that was shed is load that the others did not wait for.
MOST_FAILED: Final = 0.01
# Of what lies beyond a quantile: if all that failed were slow, the quantile would stand that much further in.
MOST_OF_TAIL: Final = 0.1


def tolerated(share: float) -> float:
    """How much of the requests may fail for the quantile `share` to be judged: 1 % for p50, 0.1 % for p99."""
    return min(MOST_FAILED, MOST_OF_TAIL * (1 - share))


def why_not_judged(share: float, answered: tuple[int, int], errors: tuple[Errors, Errors]) -> str | None:
    """The sentence, where too many requests of A or of B failed for a verdict at the quantile `share`; None where few did."""
    sides = list(zip("AB", answered, errors, strict=True))
    bound = tolerated(share)
    if all(failed_share(n, failed) <= bound for _, n, failed in sides):
        return None
    seen = "; ".join(f"{side} {told(n, failed)}" for side, n, failed in sides)
    return (
        f"{seen}: times are of what was answered, and with more than {bound:.1%} failed {percentile_name(share)} is not judged; "
        "see to the errors first"
    )


def failed_share(answered: int, errors: Errors) -> float:
    """Of all requests sent, 0 to 1; 0 where none was."""
    failed = sum(errors.values())
    return failed / max(answered + failed, 1)


def told(answered: int, errors: Errors) -> str:
    """As in "answered 30 of 300 requests (503 UNAVAILABLE 270)"."""
    codes = ", ".join(f"{code} {count:,}" for code, count in errors.items())
    return f"answered {answered:,} of {answered + sum(errors.values()):,} requests" + (f" ({codes})" if codes else "")
