"""The page's state as one HTML file that needs nothing else: for a mail, a ticket, or a look a year from now.

Everything that came from elsewhere is escaped; the file has no script and its policy allows none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import numpy as np

from runtime.telemetry.history import Column, Window

WIDTH, HEIGHT = 320, 64
# Nobody reads more, and a decision log may be long.
MAX_ROWS: Final = 500
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "h2{margin:2rem 0 .5rem}table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;"
    "padding:.25rem .6rem;border-bottom:1px solid #d7dce1;overflow-wrap:anywhere}td table{margin:0}svg{width:20rem;height:4rem}"
    "path{fill:none;stroke:#1f6feb;stroke-width:1.5;stroke-linecap:round}.note{color:#59636e}"
)


def report_html(title: str, made_at: float, sections: Mapping[str, Mapping[str, Any]], window: Window) -> str:
    """The file: every section as tables, and every series of `window` as a line with its range."""
    when = datetime.fromtimestamp(made_at, UTC).isoformat(sep=" ", timespec="seconds")
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        "<meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<h1>{escape(title)}</h1><p class="note">{escape(when)}</p>',
        *(part for name, state in sections.items() for part in _section(name, state)),
        "<h2>Statistics</h2>",
        f'<p class="note">One point is {window.step_s} s.</p><table>',
        "<tr><th>series</th><th>over time</th><th>lowest</th><th>mean</th><th>highest</th></tr>",
        *(_line(name, means, peaks) for name, (means, peaks) in sorted(window.columns.items())),
        "</table></html>",
    ]
    return "\n".join(parts)


def _section(name: str, state: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>{escape(name.replace('_', ' ').capitalize())}</h2>"
    if not state["is_set_up"]:
        yield '<p class="note">not set up</p>'
    elif "error" in state:
        yield f"<p>{escape(str(state['error']))}</p>"
    else:
        yield _value(json.loads(json.dumps(state["data"], default=str)))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        rows = "".join(f"<tr><th>{escape(str(key))}</th><td>{_value(item)}</td></tr>" for key, item in value.items())
        return f"<table>{rows}</table>" if value else "–"
    if isinstance(value, list):
        shown = "".join(f"<tr><td>{_value(item)}</td></tr>" for item in value[:MAX_ROWS])
        left = f'<p class="note">… and {len(value) - MAX_ROWS} more</p>' if len(value) > MAX_ROWS else ""
        return f"<table>{shown}</table>{left}" if value else "none"
    return "–" if value is None else escape(str(value))


def _line(name: str, means: Column, peaks: Column) -> str:
    there = means[np.isfinite(means)]
    if not len(there):
        return ""
    numbers = "".join(f"<td>{value:.4g}</td>" for value in (there.min(), there.mean(), np.nanmax(peaks)))
    path = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"><path d="{_path(means)}"/></svg>'
    return f"<tr><td>{escape(name)}</td><td>{path}</td>{numbers}</tr>"


def _path(values: Column) -> str:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scale = (HEIGHT - 4) / (high - low) if high > low else 0.0
    step = WIDTH / max(len(values) - 1, 1)
    words, is_down = [], False
    for at, value in enumerate(values.tolist()):
        if np.isnan(value):
            is_down = False
            continue
        place = f"{at * step:.1f},{HEIGHT - 2 - (value - low) * scale:.1f}"
        # A line of no length, which a value with none beside it has, is a point by its round ends.
        words.append(f"L{place}" if is_down else f"M{place}h0")
        is_down = True
    return " ".join(words)
