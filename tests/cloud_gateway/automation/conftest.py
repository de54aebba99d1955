"""A store in a real database, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_gateway.automation.answers import Suggestion
from cloud_gateway.automation.labels import Labels
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.queue import NewItem, ReviewQueue, Why
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.store import AutomationStore, DecidedBy, Served
from runtime.store import open_database, sqlite_url


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """The store with its queue and labels, and the clock that they read."""

    store: AutomationStore
    queue: ReviewQueue
    labels: Labels
    clock: Clock
    file: Path

    def put(
        self,
        request_id: str,
        answer: int = 7,
        *,
        level: Level = Level.SHADOW,
        why: Why = Why.LEVEL,
        is_blind: bool = True,
        wants: int = 1,
    ) -> str:
        """An item of model digits with a suggestion; its id."""
        served = Served("digits", request_id, "1", "", 1, Suggestion(answer, 0.97), DecidedBy.HUMAN_PENDING)
        return self.queue.put(served, NewItem(level, why, is_blind, wants, "image", ""))


SETTINGS = AutomationSettings(
    model="digits", start_level=Level.SHADOW, margin=0.05, selective_risk=0.1, most_open_items=50
)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    file, clock = tmp_path / "gateway.db", Clock()
    engine = open_database(sqlite_url(file))
    store = AutomationStore(engine, [SETTINGS], clock)
    yield House(store, ReviewQueue(store), Labels(store), clock, file)
    engine.dispose()
