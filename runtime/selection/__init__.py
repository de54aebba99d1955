"""Which variant runs where: candidates are tried, guarded, measured, decided upon, and the choice is kept.

    from runtime.selection import SelectionSettings, choose
    choice = choose(bundle, hardware, backends, SelectionSettings(), cache_folder, None)
    print(choice.selected.verdict)

Read upwards from `candidates` and `decide` (pure) to `measure` (does it) and `select` (the one entry point).
"""

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
