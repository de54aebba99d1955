"""A fact that is not there, and the sentence that says why.

A part of the probe never guesses: what it could not learn is `None` in its value, and one `Missing` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Missing:
    """One absent or unknown fact (`"NVIDIA GPU"`) and its reason (`"no NVIDIA GPU: ..."`)."""

    fact: str
    reason: str


def reason_for(missing: Iterable[Missing], fact: str) -> str | None:
    """The reason given for `fact`, or None when nothing was said about it."""
    return next((each.reason for each in missing if each.fact == fact), None)
