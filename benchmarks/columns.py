"""The figures of a measurement as texts: one column each, the same on a terminal, in Markdown and in HTML. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.breakdown import PARTS
from benchmarks.row import UNKNOWN, Row
from benchmarks.statistics import percentile_name

NOT_TOLD = "not told"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and the text below it."""

    name: str
    cell: Callable[[Row], str]
    is_words: bool = False
    """Text, to the left and may be wrapped; figures stand to the right and are whole."""


def _latency(share: float) -> Column:
    def cell(row: Row) -> str:
        percentile = row.summary.of(share)
        return f"n < {percentile.needed:,}" if percentile.ms is None else f"{percentile.ms:.3f}"

    return Column(f"{percentile_name(share)} ms", cell)


def _part(name: str) -> Column:
    def cell(row: Row) -> str:
        return number(None if row.breakdown is None else row.breakdown.to_dict()[name], ".3f")

    return Column(f"{name} ms", cell)


def number(value: float | None, form: str) -> str:
    """The value in this form, or a dash."""
    return UNKNOWN if value is None else format(value, form)


def rate(value: float | None) -> str:
    """Requests or rows a second."""
    return number(value, ",.0f" if value is not None and value >= 100 else ".1f")


_OFFERED = Column("offered/s", lambda row: rate(row.summary.offered_qps))
_GOODPUT = Column("goodput/s", lambda row: rate(row.summary.goodput_qps))
_JOULES = Column("J / 1,000", lambda row: number(row.joules_per_1000, ".2f"))
_LAG = Column("lag p99 ms", lambda row: number(None if row.lag_ms is None else row.lag_ms["p99"], ".3f"))
LATENCY = (Column("n", lambda row: f"{row.summary.n:,}"), *map(_latency, (0.5, 0.9, 0.99, 0.999)))
RATES = (
    _OFFERED,
    Column("achieved/s", lambda row: rate(row.summary.achieved_qps)),
    Column("rows/s", lambda row: rate(row.summary.rows_per_s)),
    _GOODPUT,
    Column("errors", lambda row: ", ".join(f"{name} {n:,}" for name, n in row.summary.errors) or "0", is_words=True),
)
COST = (
    Column("CPU s / 1,000", lambda row: number(row.cpu_s_per_1000, ".3f")),
    Column("peak MiB", lambda row: number(None if (b := row.peak_memory_bytes) is None else b / _MIB, ",.0f")),
    _JOULES,
    _LAG,
)
# Enough to tell models apart; the facts below a table have all 64.
DIGEST = Column("model sha256", lambda row: (row.model_sha256 or NOT_TOLD)[:12])
_OPEN = "latency from the planned send time"
_CLOSED = "latency from the send time: a closed loop, in which a slow answer delays the requests after it"
_BOTH = "latency from the planned send time, in closed loops (all but server) from the send time"
LAG_MEANING = "lag: how late the generator itself sent, which is part of the latency"
TIME_WENT = tuple(map(_part, PARTS))


def known(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Without the offered rate, goodput, energy and lag where no row has them.

    A person knows whether a load was open and an SLO was given, and notes say why no energy.
    """
    without = {
        _OFFERED.name: all(row.summary.offered_qps is None for row in rows),
        _GOODPUT.name: all(row.summary.goodput_qps is None for row in rows),
        _JOULES.name: all(row.joules_per_1000 is None for row in rows),
        _LAG.name: all(row.lag_ms is None for row in rows),
    }
    return [column for column in columns if not without.get(column.name, False)]


def who(rows: Sequence[Row]) -> Column:
    """What tells rows apart: target, scenario and backend, before them the model where there are several."""
    return _names(rows, has_backend=True)


def who_again(rows: Sequence[Row]) -> Column:
    """The same, shorter, below a table that has `who`: the backend only where rows differ in nothing else."""
    places = {(row.model, row.target, row.scenario) for row in rows}
    return _names(rows, has_backend=len(places) < len(rows))


def _names(rows: Sequence[Row], *, has_backend: bool) -> Column:
    has_models = len({row.model for row in rows}) > 1

    def cell(row: Row) -> str:
        marks = ["INVALID" if row.invalid_reason is not None else "", "stopped" if row.was_stopped else ""]
        scenario = " ".join(filter(None, [*marks, row.scenario]))
        words = [row.model if has_models else "", row.target, scenario, row.backend if has_backend else ""]
        return ", ".join(filter(None, words))

    heads = ["model" if has_models else "", "target", "scenario", "backend" if has_backend else ""]
    return Column(", ".join(filter(None, heads)), cell, is_words=True)


def meaning(rows: Sequence[Row]) -> str:
    """What the times in the columns are; a row with a lag is of an open loop."""
    are_open = {row.lag_ms is not None for row in rows}
    if True not in are_open:
        return _CLOSED
    return f"{_BOTH if False in are_open else _OPEN}; {LAG_MEANING}"
