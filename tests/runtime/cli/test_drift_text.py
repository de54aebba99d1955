"""A drift report in words."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from runtime.cli.drift_text import show


def shown(**over: Any) -> str:
    report = {
        "model": "digits",
        "version": 1,
        "rows": 1200,
        "seen_by": "devices",
        "is_drifting": False,
        "verdicts": [],
        "baseline": {"rows": 450, "source": "bundle"},
    }
    out = StringIO()
    show(Console(file=out, width=200), report | over)
    return out.getvalue()


def test_devices_that_drift_are_named_where_all_together_are_calm() -> None:
    named = [{"device": f"pi-{at}", "features": ["light", "place"]} for at in range(9)]
    text = shown(by_device={"devices": 1100, "drifting": 9, "names": named})
    assert "digits version 1: 1,200 rows seen by devices" in text
    assert "no drift: every feature lies as in the 450 rows of the bundle" in text
    assert "9 of 1,100 devices drift: pi-0: light, place; pi-1" in text
    assert "pi-5: light, place; and 3 more" in text


def test_where_none_drifts_none_is_named() -> None:
    assert "devices drift" not in shown(by_device={"devices": 1100, "drifting": 0, "names": []})
    assert "devices drift" not in shown()
