"""Versions that stand beside those of a model's source: added, kept over a reload, removed once their calls ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.errors import ConflictError, ModelNotFoundError, NoCandidateError
from runtime.wire.values import ModelState
from tests.cloud_gateway.bundles import SELECTION, make_bundle, row


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(EngineSettings(SELECTION, home=tmp_path / "home"))
    made.load(make_bundle(tmp_path / "1", 1).root)
    yield made
    made.close()


def test_an_added_version_stays_when_the_source_is_loaded_again(engine: Engine, tmp_path: Path) -> None:
    second = make_bundle(tmp_path / "2", 2, is_other=True)
    added = engine.add(second)
    assert engine.add(second) is added
    assert engine.versions("small") == [1, 2]
    assert engine.model("small").version == 2
    engine.reload("small")
    assert engine.versions("small") == [1, 2]
    assert engine.model("small", "2") is added
    assert [added.predict(row())["scores"].argmax(), engine.model("small", "1").predict(row())["scores"].argmax()] == [
        2,
        0,
    ]


def test_it_is_removed_once_its_calls_have_ended(engine: Engine, tmp_path: Path) -> None:
    added = engine.add(make_bundle(tmp_path / "2", 2))
    engine.remove("small", 2, "its release ended")
    assert added.is_closed
    assert engine.versions("small") == [1]
    with pytest.raises(ModelNotFoundError, match="has no version '2'"):
        engine.model("small", "2")
    (entry,) = [entry for entry in engine.index() if entry.version == "2"]
    assert (entry.state, entry.reason) == (ModelState.UNAVAILABLE, "its release ended")
    engine.remove("small", 2)
    engine.reload("small")
    assert engine.versions("small") == [1]


def test_other_content_under_a_version_that_is_served_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="give it a version of its own"):
        engine.add(make_bundle(tmp_path / "other", 1, is_other=True))
    with pytest.raises(NoCandidateError):
        engine.add(make_bundle(tmp_path / "broken", 3, table_size=0))
    assert engine.versions("small") == [1]


def test_unloading_takes_added_versions_too(engine: Engine, tmp_path: Path) -> None:
    engine.add(make_bundle(tmp_path / "2", 2))
    engine.unload("small")
    assert engine.versions("small") == []
    engine.reload("small")
    assert engine.versions("small") == [1]
