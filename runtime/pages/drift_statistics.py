"""The statistics of a drift document as the page lists them: a line a feature, and how the answers spread over the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_LISTED: Final = 64
"""A page is read by people, and told again whenever a window closes; the document has them all."""
MAX_TOP: Final = 4
CLASS: Final = ".class"
"""How the feature ends that is the predicted class."""


def statistics_of(features: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`rows`: [feature, role, count, missing (0..1), mean, p10, p50, p90, before, top]; `left_out`: how many more there are.

    `predictions`: [value, share, before], where there are classes.
    """
    listed = [_line(name, told) for name, told in list(features.items())[:MAX_LISTED]]
    classes = next((told for name, told in features.items() if name.endswith(CLASS) and told.get("top")), None)
    return {
        "rows": listed,
        "left_out": max(len(features) - MAX_LISTED, 0),
        "predictions": [] if classes is None else _predictions(classes),
    }


def _line(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    rows = told["rows"]
    line = {
        "feature": name,
        "role": told.get("role"),
        "count": rows,
        "missing": (told["missing"] + told["not_finite"]) / rows if rows else None,
    }
    reference = told.get("reference", {})
    if "top" in told:
        words = [f"{value} {high / rows:.1%}" for value, _, high in told["top"][:MAX_TOP] if rows]
        return {**line, "top": ", ".join(words)}
    tenths = told.get("deciles")
    numbers = {"mean": told.get("mean"), "before": reference.get("mean")}
    if tenths:
        numbers |= {"p10": tenths[1], "p50": tenths[5], "p90": tenths[9]}
    return {**line, **{key: None if value is None else float(f"{value:.4g}") for key, value in numbers.items()}}


def _predictions(classes: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows, before = max(classes["rows"], 1), classes["reference"]["shares"]
    return [
        {"value": value, "share": round(high / rows, 4), "before": share}
        for (value, _, high), share in zip(classes["top"], before, strict=True)
    ]
