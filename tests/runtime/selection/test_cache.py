"""Kept choices: believed while they hold, else measured anew and said so; whatever lies in the file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Targets
from runtime.selection import cache
from runtime.selection.candidates import enumerate_candidates
from runtime.selection.choice import Choice
from runtime.selection.cost import CostModel
from runtime.selection.decide import Origin, decide
from runtime.selection.goal import Goal
from runtime.selection.guard import GuardResult
from runtime.selection.installed import installed_digest, installed_stamp
from runtime.selection.measured import Measured
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import Objective, SelectionSettings
from tests.runtime.selection.fakes import FakeBackend, latency, machine, make_bundle


class Setting:
    """A bundle, a backend, a choice and the folder it is kept in."""

    def __init__(self, root: Path) -> None:
        self.bundle: Bundle = make_bundle(root / "bundle", {"a": {}, "b": {}})
        self.backend = FakeBackend(extras=({}, {"fast": "1"}))
        self.folder = root / "home" / "calibrations"
        candidates, rejected = enumerate_candidates(self.bundle, machine(), [self.backend])
        measured = [
            Measured(
                c,
                ((1, latency(1.0 + i)), (8, latency(7.0 + i))),
                1,
                GuardResult(9, 0.9, 0.99),
                (MemoryUse(1, 3.5),),
                busy=((1, 1.5), (8, 9.0)),
            )
            for i, c in enumerate(candidates)
        ]
        self.choice: Choice = decide(measured, rejected, Goal(), Origin("fake", 1, "accuracy on 9 labelled samples"))
        self.key = self.key_for()

    def key_for(self, goal: Goal | None = None, settings: SelectionSettings | None = None) -> cache.Key:
        return cache.key_for(self.bundle, "f" * 32, [self.backend], goal or Goal(), settings or SelectionSettings())

    def read(self, key: cache.Key | None = None) -> cache.Kept:
        return cache.read(self.folder, key or self.key, self.bundle, [self.backend])

    @property
    def file(self) -> Path:
        (file,) = self.folder.iterdir()
        return file

    def edit(self, **changes: Any) -> None:
        entry = json.loads(self.file.read_text())
        entry.update(changes)
        self.file.write_text(json.dumps(entry))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    made = Setting(tmp_path)
    assert cache.write(made.folder, made.key, made.choice) is None
    return made


def test_what_was_kept_comes_back_whole(setting: Setting) -> None:
    kept = setting.read()
    assert kept.warning is None
    assert kept.choice == replace(setting.choice, from_cache=True)
    assert kept.choice.selected.cost == CostModel(((1, 1.0), (8, 7.0)))


def test_nothing_kept_is_no_warning(tmp_path: Path) -> None:
    assert Setting(tmp_path).read() == cache.Kept(None)


def test_versions_are_asked_for_only_when_packages_changed(setting: Setting) -> None:
    before = setting.backend.version_questions
    assert setting.read().choice is not None
    assert setting.backend.version_questions == before
    assert setting.read(replace(setting.key, installed="0" * 32)).choice is not None
    assert setting.backend.version_questions > before
    # Noted: the next time it is believed at once.
    before = setting.backend.version_questions
    assert setting.read(replace(setting.key, installed="0" * 32)).choice is not None
    assert setting.backend.version_questions == before


def test_the_digest_of_what_is_installed_sees_a_new_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = installed_digest()
    assert before == installed_digest()
    (tmp_path / "engine-2.0.dist-info").mkdir()
    assert installed_digest() != before


def test_another_version_of_a_library_is_stale(setting: Setting) -> None:
    setting.backend.installed = "1.1"
    kept = setting.read(replace(setting.key, installed="0" * 32))
    assert kept.choice is None
    assert kept.warning == "the calibration of 'fake' is out of date: fake-cpu went from 1.0 to 1.1; measured anew"


def test_a_backend_that_came_or_went_is_stale(setting: Setting) -> None:
    other = FakeBackend(name="other")
    kept = setting.read(replace(setting.key, installed="0" * 32, backends=(other,)))
    assert kept.warning is not None
    assert "fake-cpu is gone; other was added" in kept.warning


def test_another_machine_is_stale(setting: Setting) -> None:
    kept = setting.read(replace(setting.key, fingerprint="0" * 32))
    assert kept.choice is None
    assert kept.warning == "the calibration of 'fake' is out of date: the machine changed; measured anew"


@pytest.mark.parametrize(
    ("goal", "settings"),
    [
        (Goal(objective=Objective.MEMORY), SelectionSettings()),
        (Goal(accuracy_floor=0.5), SelectionSettings()),
        (Goal(memory_cap_mb=10), SelectionSettings()),
        (Goal(agreement_floor=0.5), SelectionSettings()),
        (Goal(targets=Targets(p95_latency_ms=20)), SelectionSettings()),
        (Goal(targets=Targets(throughput_rows_per_s=20)), SelectionSettings()),
        (Goal(), SelectionSettings(backends=("fake-cpu",))),
        (Goal(), SelectionSettings(variants=("a",))),
    ],
)
def test_another_question_has_an_entry_of_its_own(setting: Setting, goal: Goal, settings: SelectionSettings) -> None:
    key = setting.key_for(goal, settings)
    assert setting.read(key) == cache.Kept(None)
    cache.write(setting.folder, key, setting.choice)
    assert setting.read().choice is not None
    assert len(list(setting.folder.iterdir())) == 2


def test_budget_and_seed_do_not_change_the_question() -> None:
    bundle_free = SelectionSettings(budget_s=9.0, seed=3, isolate=False, refresh=True)
    assert bundle_free.backends == SelectionSettings().backends


GARBAGE = [b"", b"{", b"\0" * 100, b"[]", b"null", b'{"schema_version": 1}', b"\xff\xfe", b'{"a":' * 5000]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_corrupt_file_is_said_and_can_be_rebuilt(setting: Setting, garbage: bytes) -> None:
    setting.file.write_bytes(garbage)
    kept = setting.read()
    assert kept.choice is None
    assert kept.warning is not None
    assert "is corrupt" in kept.warning
    assert kept.warning.endswith("measured anew")
    cache.write(setting.folder, setting.key, setting.choice)
    assert setting.read().choice is not None


def test_every_truncation_is_noticed(setting: Setting) -> None:
    whole = setting.file.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        setting.file.write_bytes(whole[:length])
        assert setting.read().choice is None


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 1},
        {"surprise": 1},
        {"versions": "1.0"},
        {"choice": None},
    ],
)
def test_another_schema_is_said(setting: Setting, changes: dict[str, Any]) -> None:
    setting.edit(**changes)
    kept = setting.read()
    assert kept.choice is None
    assert kept.warning is not None
    assert next(iter(changes)) in kept.warning


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("variant", "c"),
        ("backend", "gone"),
        ("threads", 0),
        ("cost_ms_by_rows", {}),
        ("cost_ms_by_rows", {"1": -1.0}),
        ("cost_ms_by_rows", {"one": 1.0}),
        ("accuracy", 7),
        ("memory_mb", "much"),
    ],
)
def test_values_that_cannot_be_are_said(setting: Setting, where: str, value: Any) -> None:
    entry = json.loads(setting.file.read_text())
    entry["choice"]["ranked"][0][where] = value
    setting.file.write_text(json.dumps(entry))
    kept = setting.read()
    assert kept.choice is None
    assert kept.warning is not None


def test_a_folder_in_place_of_the_file_is_said(setting: Setting) -> None:
    file = setting.file
    file.unlink()
    file.mkdir()
    kept = setting.read()
    assert kept.choice is None
    assert kept.warning is not None
    assert "cannot be read" in kept.warning
    warning = cache.write(setting.folder, setting.key, setting.choice)
    assert warning is not None
    assert "will be measured again next time" in warning
    assert [path.name for path in setting.folder.iterdir()] == [file.name]  # no scratch file is left


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    made = Setting(tmp_path)
    (tmp_path / "home").write_text("a file where the folder should be")
    warning = cache.write(made.folder, made.key, made.choice)
    assert warning is not None
    assert "could not be kept" in warning
    assert made.read().choice is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(setting: Setting) -> None:
    setting.folder.chmod(0o500)
    try:
        assert cache.write(setting.folder, setting.key, setting.choice) is not None
        assert setting.read().choice is not None
    finally:
        setting.folder.chmod(0o700)


WRITER = """
import sys
from pathlib import Path
from runtime.selection import cache
from tests.runtime.selection.test_cache import Setting
made = Setting(Path(sys.argv[1]))
folder = Path(sys.argv[2])
for _ in range(60):
    assert cache.write(folder, made.key, made.choice) is None
    kept = cache.read(folder, made.key, made.bundle, [made.backend])
    assert kept.choice is not None and kept.warning is None, kept
"""


@pytest.mark.slow
def test_two_processes_at_once_never_see_half_a_file(tmp_path: Path) -> None:
    Setting(tmp_path / "a")
    folder = tmp_path / "kept"
    arguments = [sys.executable, "-c", WRITER]
    processes = [
        subprocess.Popen([*arguments, str(tmp_path / "a" / str(i)), str(folder)], cwd=Path(__file__).parents[3])
        for i in range(2)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert len(list(folder.iterdir())) == 1


def test_what_holds_is_recalled_and_anything_else_is_left_to_reading(setting: Setting) -> None:
    def recall(seen: str, *backends: FakeBackend) -> Choice | None:
        return cache.recall(setting.folder, setting.bundle, setting.key.question, seen, backends)

    assert recall("now", setting.backend) is None, "it was kept without a glance"
    before = setting.backend.version_questions
    assert setting.read(replace(setting.key, seen="now")).choice is not None
    assert recall("now", setting.backend) == replace(setting.choice, from_cache=True)
    assert setting.backend.version_questions == before
    assert recall("later", setting.backend) is None, "something changed: read looks closer"
    assert setting.read().choice is not None
    assert recall("now", setting.backend) is not None, "whoever reads without a glance does not forget the last one"
    assert recall("now") is None, "it names a backend that is not among these"
    assert setting.read(replace(setting.key, seen="later")).choice is not None
    assert recall("later", setting.backend) is not None, "noted: nothing that matters had changed"
    setting.file.write_text("{")
    assert recall("later", setting.backend) is None
    setting.file.unlink()
    assert recall("later", setting.backend) is None


def test_a_glance_sees_a_package_that_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    before = cache.glance(lambda: 1.0)
    assert before == cache.glance(lambda: 2.0)
    os.utime(packages, (1, 1))
    assert cache.glance(lambda: 2.9) == before, "a glance holds for a second"
    assert before is None or cache.glance(lambda: 3.0) != before


def test_of_a_programs_own_folder_only_packages_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = installed_stamp()
    (tmp_path / "results.csv").write_text("1\n")
    os.utime(tmp_path, (1, 1))
    assert installed_stamp() == before
    (tmp_path / "engine-2.0.dist-info").mkdir()
    os.utime(tmp_path, (2, 2))
    assert installed_stamp() != before
