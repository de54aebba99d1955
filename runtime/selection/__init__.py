"""Which variant runs where: candidates are tried, guarded, measured, decided upon, and the choice is kept.

    from runtime.selection import SelectionSettings, choose
    choice = choose(bundle, hardware, backends, SelectionSettings(), cache_folder, None)
    print(choice.selected.verdict)

Read upwards from `candidates` and `decide` (pure) to `measure` (does it) and `select` (the one entry point).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.selection.candidates import Candidate, Rejected, enumerate_candidates
    from runtime.selection.choice import Choice, Ranked
    from runtime.selection.cost import CostModel
    from runtime.selection.latency import Latency
    from runtime.selection.select import choose
    from runtime.selection.settings import Objective, SelectionSettings

__all__ = [
    "Candidate",
    "Choice",
    "CostModel",
    "Latency",
    "Objective",
    "Ranked",
    "Rejected",
    "SelectionSettings",
    "choose",
    "enumerate_candidates",
]

_HOMES = {
    "Candidate": "runtime.selection.candidates",
    "Choice": "runtime.selection.choice",
    "CostModel": "runtime.selection.cost",
    "Latency": "runtime.selection.latency",
    "Objective": "runtime.selection.settings",
    "Ranked": "runtime.selection.choice",
    "Rejected": "runtime.selection.candidates",
    "SelectionSettings": "runtime.selection.settings",
    "choose": "runtime.selection.select",
    "enumerate_candidates": "runtime.selection.candidates",
}


def __getattr__(name: str) -> Any:
    """Names are fetched when they are first used: who loads a model that was measured needs few of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
