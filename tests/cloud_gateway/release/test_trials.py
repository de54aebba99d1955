"""Crashes while a release runs: counted in a row, across processes, whatever the disk does."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_gateway.release.trials import MAX_CRASHES, MOST_TRIALS, Trial, Trials, begun


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, Trial(0, True)),
        (Trial(0, False), Trial(0, True)),
        (Trial(0, True), Trial(1, True)),
        (Trial(1, False), Trial(1, True)),
        (Trial(1, True), Trial(2, False)),
        (Trial(2, False), Trial(2, False)),
    ],
)
def test_only_an_end_without_a_word_counts(before: Trial | None, after: Trial) -> None:
    assert begun(before) == after
    assert after.has_failed == (after.crashes >= MAX_CRASHES)


def test_marks_outlive_the_process_and_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "gateway" / "trials.json"
    for release in range(MOST_TRIALS + 5):
        Trials(file).begin(release)
    assert len(json.loads(file.read_text())) == MOST_TRIALS
    again = Trials(file)
    assert again.begin(60) == again.begin(60) == Trial(1, True)  # once a process
    again.end(60)
    assert "60" not in json.loads(file.read_text())


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}', '{"1": {}}', '{"1": {"crashes": null, "is_running": true}}'])
def test_a_damaged_file_is_said_and_begun_anew(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "trials.json"
    file.write_text(text)
    assert Trials(file).begin(1) == Trial(0, True)
    assert "cannot be read" in caplog.text
    assert json.loads(file.read_text()) == {"1": {"crashes": 0, "is_running": True}}


def test_a_disk_that_takes_nothing_is_said_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "gateway").write_text("a file where the folder should be")
    with caplog.at_level(logging.ERROR):
        assert Trials(tmp_path / "gateway" / "trials.json").begin(1) == Trial(0, True)
    assert "cannot be written" in caplog.text


def test_releases_that_begin_and_end_at_the_same_time_are_all_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, count, together = tmp_path / "trials.json", 8, threading.Barrier(8)
    trials = Trials(file)

    def run(release: int) -> None:
        together.wait()
        trials.begin(release)
        trials.begin(release + count)
        trials.end(release)

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(run, range(count)))
    assert set(json.loads(file.read_text())) == {str(release + count) for release in range(count)}
    assert caplog.text == ""


def test_what_begins_after_the_gateway_was_told_to_end_is_no_crash(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "trials.json")
    trials.begin(1)
    trials.close()
    trials.begin(2)  # a thread whose load was given up
    again = Trials(tmp_path / "trials.json")
    assert again.begin(1) == again.begin(2) == Trial(0, True)
