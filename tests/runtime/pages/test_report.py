"""The report's lines of statistics."""

from __future__ import annotations

import re

import numpy as np

from runtime.pages.report import report_html
from runtime.telemetry.history import Window


def paths(values: list[float]) -> str:
    column = np.array(values)
    window = Window(1, np.arange(len(values)), {"x": (column, column)})
    found = re.findall(r'<path d="([^"]+)"', report_html("t", 0.0, {}, window))
    (path,) = found
    return str(path)


def test_a_line_breaks_where_nothing_was_measured_and_a_lone_value_is_a_point() -> None:
    path = paths([1.0, 2.0, np.nan, 3.0, np.nan])
    assert [part[0] for part in re.findall(r"[ML][^ML]+", path)] == ["M", "L", "M"]
    assert path.endswith("M240.0,2.0h0"), "of no length, seen by its round ends"
