"""A drift report in words, and as a file."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from runtime.cli.drift_html import page
from runtime.cli.drift_text import show

REPORT: dict[str, Any] = {
    "model": "digits",
    "version": 1,
    "rows": 1200,
    "seen_by": "devices",
    "is_drifting": False,
    "verdicts": [],
    "baseline": {"rows": 450, "source": "bundle"},
}


def shown(**over: Any) -> str:
    out = StringIO()
    show(Console(file=out, width=200), REPORT | over)
    return out.getvalue()


def by_device(drifting: int, names: list[dict[str, Any]], not_known: int = 0, private_rows: int = 0) -> dict[str, Any]:
    told = {"devices": 1100, "drifting": drifting, "names": names}
    return {**told, "not_known": not_known, "private_rows": private_rows}


def test_devices_that_drift_are_named_where_all_together_are_calm() -> None:
    named = [{"device": f"pi-{at}", "features": ["light", "place"]} for at in range(9)]
    text = shown(by_device=by_device(9, named))
    assert "digits version 1: 1,200 rows seen by devices" in text
    assert (
        "DRIFT on single devices; in the rows of all of them every feature lies as in the 450 rows of the bundle"
        in text
    )
    assert "no drift" not in text
    assert "9 of 1,100 devices drift: pi-0: light, place; pi-1" in text
    assert "pi-5: light, place; and 3 more" in text


def test_where_none_drifts_none_is_named() -> None:
    for text in (shown(by_device=by_device(0, [])), shown()):
        assert "no drift: every feature lies as in the 450 rows of the bundle" in text
        assert "devices drift" not in text
        assert "not known" not in text


def test_devices_that_keep_rows_to_themselves_are_counted() -> None:
    text = shown(by_device=by_device(0, [], not_known=2, private_rows=1234))
    assert "no drift as far as may be known: every feature lies as in the 450 rows of the bundle" in text
    assert "not known of 2 of 1,100 devices: 1,234 rows are private" in text


def test_the_file_says_the_same_of_devices_and_their_names_are_text() -> None:
    named = [{"device": "<b>pi", "features": ["light"]}]
    text = page([{**REPORT, "by_device": by_device(1, named, not_known=2, private_rows=1234)}])
    assert "1 of 1,100 devices drift: &lt;b&gt;pi: light" in text
    assert "not known of 2 of 1,100 devices: 1,234 rows are private" in text
    for one in (REPORT, {**REPORT, "by_device": by_device(0, [])}):
        assert "devices" not in page([one])


def test_an_earlier_gateway_said_nothing_of_what_is_not_known() -> None:
    told = {"devices": 3, "drifting": 1, "names": [{"device": "pi", "features": ["light"]}]}
    for text in (shown(by_device=told), page([{**REPORT, "by_device": told}])):
        assert "1 of 3 devices drift: pi: light" in text
        assert "not known" not in text


@pytest.mark.parametrize(
    ("drifting", "unknown", "style", "tone"), [(0, 0, "32", "good"), (0, 2, "33", "unknown"), (1, 2, "31", "bad")]
)
def test_the_answer_is_as_green_as_it_is_for_every_device(drifting: int, unknown: int, style: str, tone: str) -> None:
    named = [{"device": "pi", "features": ["light"]}][:drifting]
    report = {**REPORT, "by_device": by_device(drifting, named, unknown, unknown * 10)}
    assert f"<p class={tone}><strong>" in page([report])
    out = StringIO()
    show(Console(file=out, width=200, force_terminal=True, color_system="standard"), report)
    answer = out.getvalue().splitlines()[1]
    assert answer.startswith(f"\x1b[{style}m"), answer
