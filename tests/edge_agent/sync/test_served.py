"""Back to what the settings name: a bundle, a model of a repository, by its name or because all of them are meant, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.sync.served import EngineModels
from runtime.bundle.writing import pack
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.errors import BundleNotFoundError
from runtime.selection.settings import SelectionSettings
from tests.edge_agent.sorting import WEAK, sorting_bundle

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",))


@pytest.mark.parametrize(
    ("sources", "has_repository"),
    [(("sort",), True), ((), True), (("{other}", "{own}"), False), (("{own}",), True), (("other", "{own}"), True)],
    ids=["named of the repository", "all of the repository", "a bundle", "a bundle beside one", "both"],
)
def test_what_the_settings_name_serves_again(sources: tuple[str, ...], has_repository: bool, tmp_path: Path) -> None:
    shelf = tmp_path / "repository"
    sorting_bundle(shelf / "other", "other", WEAK, samples=40)
    own = shelf / "sort"
    if "{own}" in sources:
        own = tmp_path / "own" / "sort"
    original = sorting_bundle(own, "sort", WEAK, samples=40)
    synced = pack(sorting_bundle(tmp_path / "new", "sort", WEAK, 2, samples=40), tmp_path / "2.tar")
    named = tuple(source.format(own=own, other=shelf / "other") for source in sources)
    engine = Engine(EngineSettings(QUICK, home=tmp_path, repository=shelf if has_repository else None))
    models = EngineModels(engine, named)
    try:
        models.switch("sort", synced)
        assert engine.model("sort").version == 2
        models.switch("sort", None)
        assert models.digest("sort") == original.digest
    finally:
        engine.close()


def test_what_the_settings_do_not_name_is_unloaded(tmp_path: Path) -> None:
    synced = pack(sorting_bundle(tmp_path / "new", "sort", WEAK, samples=40), tmp_path / "1.tar")
    engine = Engine(EngineSettings(QUICK, home=tmp_path))
    models = EngineModels(engine, ())
    try:
        models.switch("sort", synced)
        models.switch("sort", None)
        assert models.digest("sort") is None
        models.switch("sort", None)
    finally:
        engine.close()


def test_a_source_that_is_gone_stops_only_what_may_have_been_its_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = sorting_bundle(tmp_path / "own" / "sort", "sort", WEAK, samples=40).root
    gone = str(tmp_path / "gone.tar")
    synced = pack(sorting_bundle(tmp_path / "new", "sort", WEAK, 2, samples=40), tmp_path / "2.tar")
    engine = Engine(EngineSettings(QUICK, home=tmp_path))
    models = EngineModels(engine, (gone, str(own)))
    try:
        models.switch("sort", synced)
        models.switch("sort", None)
        assert engine.model("sort").version == 1
        assert f"{gone} cannot be opened and is passed over" in caplog.text
        with pytest.raises(BundleNotFoundError, match=r"gone\.tar"):
            models.switch("other", None)
    finally:
        engine.close()
