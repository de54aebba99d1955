"""Metrics as values, and as Prometheus' text format.

Written by hand: the format is a handful of lines, and the usual library cannot write Triton's names, for it ends every counter
in `_total`; it is the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runtime.telemetry.histogram import Buckets

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Kind(StrEnum):
    """What a number means over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Sample = tuple[Mapping[str, str], float | Buckets]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, and the values of its label sets; `Buckets` where its kind is histogram."""

    name: str
    kind: Kind
    text: str
    samples: Sequence[Sample]


Collector = Callable[[], Awaitable[Sequence[Family]]]
"""Reads a part's numbers as they are now; called on the event loop, for every scrape and once a second for the page."""


def merged(families: Iterable[Family]) -> list[Family]:
    """Families of one name, from several collectors, as one: the format allows no second."""
    by_name: dict[str, Family] = {}
    for family in families:
        known = by_name.get(family.name)
        samples = family.samples if known is None else [*known.samples, *family.samples]
        by_name[family.name] = Family(family.name, family.kind, family.text, samples)
    return list(by_name.values())


def render(families: Iterable[Family]) -> str:
    """The whole page; no two families have one name."""
    return "".join(_render(family) for family in families)


def _render(family: Family) -> str:
    lines = [f"# HELP {family.name} {_escape_help(family.text)}", f"# TYPE {family.name} {family.kind}"]
    for labels, value in family.samples:
        if isinstance(value, Buckets):
            lines += _buckets(family.name, labels, value)
        else:
            lines.append(_line(family.name, labels, value))
    return "\n".join(lines) + "\n"


def _buckets(name: str, labels: Mapping[str, str], value: Buckets) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*map(_number, value.bounds), "+Inf"), value.counts, strict=True):
        seen += count
        yield _line(f"{name}_bucket", {**labels, "le": bound}, seen)
    yield _line(f"{name}_sum", labels, value.sum)
    yield _line(f"{name}_count", labels, seen)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    words = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{words}}} {value!r}" if words else f"{name} {value!r}"


def _number(value: float) -> str:
    return f"{value:g}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
