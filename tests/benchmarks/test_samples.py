import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.samples import Recording, Samples, load, load_folder
from runtime.errors import WrongUseError

MS = 1_000_000


def samples(planned: list[int], sent: list[int], done: list[int], status: list[int] | None = None) -> Samples:
    n = len(planned)
    times = (np.array(column, dtype=np.int64) * MS for column in (planned, sent, done))
    ones = np.ones(n, dtype=np.int64)
    return Samples(*times, ones, np.array(status or [0] * n), np.zeros(n, dtype=np.int64))


def header(**changes: Any) -> dict[str, Any]:
    return {
        "setting": {"model": "m", "target": "inproc", "backend": "auto"},
        "scenario_text": "single",
        "statuses": ["ok", "503 UNAVAILABLE"],
        "offered_qps": 10.0,
        "invalid_reason": None,
        **changes,
    }


def test_latency_counts_from_the_planned_time() -> None:
    seen = samples([0, 10, 20], [0, 100, 100], [100, 110, 120])
    assert seen.latency_ms.tolist() == [100, 100, 100]
    assert seen.service_ms.tolist() == [100, 10, 20]
    assert seen.duration_s == 0.12


def test_waiting_for_a_connection_is_told_from_the_generators_own_lag() -> None:
    # One connection: the second request was due at 10, the connection was free at 100, and it went at 103.
    seen = samples([0, 10], [0, 103], [100, 110])
    assert seen.queued_ms(1).tolist() == [0, 90]
    assert seen.lag_ms(1).tolist() == [0, 3]
    # Two connections: one was free all the time, so all of it is the generator's own lag.
    assert seen.queued_ms(2).tolist() == [0, 0]
    assert seen.lag_ms(2).tolist() == [0, 93]


def test_a_recording_survives_its_file(tmp_path: Path) -> None:
    recording = Recording(header(), samples([0, 1], [0, 1], [5, 9], [0, 1]))
    recording.save(tmp_path / "one.npz")
    again = load(tmp_path / "one.npz")
    assert again.header == {"schema_version": 1, **recording.header}
    assert again.samples.done_ns.tolist() == [5 * MS, 9 * MS]
    assert again.key == ("m", "inproc", "auto", "single")
    assert again.summary().errors == (("503 UNAVAILABLE", 1),)
    assert [file.name for file in tmp_path.iterdir()] == ["one.npz"]


def test_the_header_is_plain_json_in_the_zip(tmp_path: Path) -> None:
    Recording(header(), samples([0], [0], [1])).save(tmp_path / "one.npz")
    with zipfile.ZipFile(tmp_path / "one.npz") as archive:
        assert json.loads(archive.read("header.json"))["schema_version"] == 1


def test_other_files_and_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(WrongUseError, match="no recording"):
        load(tmp_path / "text.npz")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    with pytest.raises(WrongUseError, match="no recording"):
        load(tmp_path / "arrays.npz")
    np.savez(tmp_path / "objects.npz", **{"header.json": np.array([object()])})
    with pytest.raises(WrongUseError, match="name a folder that `edgeward bench run` wrote") as caught:
        load(tmp_path / "objects.npz")
    assert "pickle" not in str(caught.value)
    with pytest.raises(WrongUseError, match="cannot be read: No such file or directory; check the path"):
        load(tmp_path / "none.npz")
    recording = Recording(header(schema_version=2), samples([0], [0], [1]))
    recording.save(tmp_path / "later.npz")
    with pytest.raises(WrongUseError, match="schema version 2"):
        load(tmp_path / "later.npz")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="holds no recordings"):
        load_folder(tmp_path)
