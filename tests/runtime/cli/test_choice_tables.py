"""A choice on narrow and wide terminals: what a column shortens keeps its caveat."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from runtime.cli.choice_tables import show_choice
from runtime.selection.decide import Origin, decide
from runtime.selection.goal import Goal
from runtime.selection.settings import Objective
from tests.runtime.selection.fakes import measured


@pytest.mark.parametrize(
    ("width", "timed", "tried"),
    [(80, "1.50 ×", "4.00 × (trial)"), (200, "1.50 × the chosen one", "4.00 × the chosen one (in its trial)")],
)
def test_a_ratio_of_a_trial_is_told_from_one_that_was_measured(width: int, timed: str, tried: str) -> None:
    found = [measured("a", 1.0), measured("b", 1.5), measured("far", 4.0, rounds=0)]
    choice = decide(found, [], Goal(), Origin("net", 1, "agreement"))
    out = StringIO()
    Console(file=out, width=width).print(show_choice(choice))
    rows = {words[0]: " ".join(line.split()) for line in out.getvalue().splitlines() if (words := line.split())}
    assert rows["b"].endswith(timed)
    assert rows["far"].endswith(tried)


@pytest.mark.parametrize(
    ("width", "said"), [(80, "2.00 × (processor)"), (200, "2.00 × the chosen one's processor time")]
)
def test_a_ratio_of_processor_time_is_told_from_one_of_latency(width: int, said: str) -> None:
    found = [replace(measured(name, 1.0), busy=((1, ms),)) for name, ms in (("a", 1.0), ("b", 2.0))]
    choice = decide(found, [], Goal(objective=Objective.EFFICIENCY), Origin("net", 1, "agreement"))
    out = StringIO()
    Console(file=out, width=width).print(show_choice(choice))
    rows = {words[0]: " ".join(line.split()) for line in out.getvalue().splitlines() if (words := line.split())}
    assert rows["b"].endswith(said)
