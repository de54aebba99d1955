"""What synced versions were unpacked to goes with them: two versions stay, and whatever is in service."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import edge_agent.sync.download as module
from edge_agent.sync.check import Checked, Chooses
from edge_agent.sync.download import Source
from edge_agent.sync.interruption import Interruption
from edge_agent.sync.record import Offer
from edge_agent.sync.served import EngineModels
from edge_agent.sync.state import SyncFolder, SyncState
from edge_agent.sync.syncer import Syncer, Wishes
from runtime.bundle.bundle import Bundle, sha256_of
from runtime.bundle.unpacked import use
from runtime.bundle.writing import pack
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.selection.settings import SelectionSettings
from tests.edge_agent.sorting import WEAK, sorting_bundle

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",))


@pytest.mark.slow
def test_after_many_syncs_only_the_current_and_the_previous_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineSettings(QUICK, home=tmp_path))
    tars: dict[int, Path] = {}
    offers: list[Offer] = []

    def offer(bundle: Bundle, version: int) -> Offer:
        tars[version] = pack(bundle, tmp_path / f"{version}.tar")
        sha256 = sha256_of(tars[version])
        return Offer("sort", version, bundle.digest, sha256, tars[version].stat().st_size)

    def fetch(_: Source, wanted: Offer, part: Path, target: Path, most: int, interruption: Interruption) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tars[wanted.version], target)

    monkeypatch.setattr(module, "fetch_index", lambda *_: offers)
    monkeypatch.setattr(module, "download", fetch)
    syncer = Syncer(
        SyncFolder(tmp_path / "sync", tmp_path / "bundles"),
        Wishes(Source("127.0.0.1:1"), ("sort",), 1 << 20, Chooses("latency")),
        EngineModels(engine, ()),
        lambda *_: Checked(True, "good"),
    )
    for version in range(1, 5):
        bundle = sorting_bundle(tmp_path / f"source-{version}", "sort", WEAK, version, samples=40)
        offers[:] = [offer(bundle, version)]
        assert syncer.sync()["last_error"] is None
        model = engine.model("sort")
        assert model.version == version
        assert model.predict({"x": np.ones((1, 2), np.float32)})["scores"].shape == (1, 2)
        assert model.bundle.samples() is not None, "what is in service can still be read"
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == sorted(
        sha256_of(tars[version]) for version in (3, 4)
    )
    engine.close()


def test_what_is_in_use_or_not_ours_stays(tmp_path: Path) -> None:
    folder = SyncFolder(tmp_path / "sync", tmp_path / "bundles")
    (tmp_path / "sync" / "bundles").mkdir(parents=True)
    for name in ("used", "unused"):
        (tmp_path / "sync" / "bundles" / f"{name}.tar").touch()
    for name in ("used", "unused", "somebody-elses"):
        (tmp_path / "bundles" / name / "inner").mkdir(parents=True)
    folder.tidy(SyncState(), None, [tmp_path / "bundles" / "used" / "inner"])
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == ["somebody-elses", "used"]
    assert [path.name for path in (tmp_path / "sync" / "bundles").iterdir()] == ["used.tar"]
    folder.tidy(SyncState(), None, [])
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["somebody-elses"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind")
def test_what_another_process_serves_stays_unpacked(tmp_path: Path) -> None:
    import fcntl

    folder = SyncFolder(tmp_path / "sync", tmp_path / "bundles")
    (tmp_path / "sync" / "bundles").mkdir(parents=True)
    (tmp_path / "sync" / "bundles" / "old.tar").touch()
    unpacked = tmp_path / "bundles" / "old"
    unpacked.mkdir(parents=True)
    use(unpacked)  # as the agent's engine did when it was served
    other = os.open(unpacked, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    folder.tidy(SyncState(), None)
    assert unpacked.exists()
    os.close(other)
    (tmp_path / "sync" / "bundles" / "old.tar").touch()
    use(unpacked)
    folder.tidy(SyncState(), None)
    assert list((tmp_path / "bundles").iterdir()) == []
