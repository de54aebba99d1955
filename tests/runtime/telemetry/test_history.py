"""The history in memory and in a database: down-sampled, bounded, alive after a restart, and no danger when the disk is."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, func, select

from runtime.errors import StorageError
from runtime.store import open_database, reading, sqlite_url
from runtime.telemetry import history_store
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.history import GONE_S, LEVELS, MAX_SERIES, History, Level
from runtime.telemetry.history_recorder import HistoryRecorder
from runtime.telemetry.history_store import MAX_RESTORED, HistoryStore

START = 1_800_000_000  # a multiple of 300


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "history.db"))
    yield engine
    engine.dispose()


def column(history: History, name: str, since: int, until: int) -> tuple[int, list[float]]:
    window = history.read(since, until).window([name])
    return window.step_s, window.columns[name][0].tolist()


def test_coarser_points_are_means_and_peaks_of_the_seconds_in_them() -> None:
    history = History()
    complete = [point for second in range(601) for point in history.add({"x": float(second % 10)}, START + second)]
    assert {level: sum(1 for at, _ in complete if at == level) for level in range(4)} == {0: 601, 1: 60, 2: 10, 3: 2}
    tens = history.read(START, START + 3 * 3600 - 1).window()
    assert tens.step_s == 10
    assert tens.times[:3].tolist() == [START, START + 10, START + 20]
    assert tens.columns["x"][0][:60].tolist() == [4.5] * 60
    assert tens.columns["x"][1][:60].tolist() == [9.0] * 60


def test_a_second_that_stood_out_is_the_peak_of_its_minute_after_a_day() -> None:
    history = History()
    for second in range(3 * 3600):
        history.add({"x": 900.0 if second == 1234 else 1.0}, START + second)
    day = history.read(START, START + 86_400).window(["x"])
    means, peaks = day.columns["x"]
    assert (day.step_s, len(day.times)) == (60, 180)
    assert peaks[20] == 900.0
    assert means[20] == pytest.approx(1 + 899 / 60)
    assert sum(peaks > 1) == 1


def test_the_finest_level_that_is_long_enough_answers() -> None:
    history = History()
    for second in range(30):
        history.add({"x": float(second)}, START + second)
    assert column(history, "x", START, START + 600)[0] == 1
    assert column(history, "x", START, START + 601) == (10, [4.5, 14.5, 24.5])
    assert column(history, "x", START, START + 3 * 3600 + 1)[0] == 60
    assert column(history, "x", START, START + 24 * 3600)[0] == 60
    assert column(history, "x", START, START + 24 * 3600 + 1)[0] == 300


def test_memory_is_bounded_in_time_series_and_names() -> None:
    history = History((Level(1, 5), Level(10, 3)))
    for second in range(100):
        history.add({"x": 1.0}, START + second)
    assert len(history.read(0, START + 200).points) <= 5
    for number in range(MAX_SERIES + 10):
        history.add({f"s{number}": 1.0}, START + 200 + number)
    history.add({"y" * 5000: 1.0}, START + 9000)
    assert len(history.names) == MAX_SERIES
    assert history.left_out == 12


def test_series_that_are_gone_give_their_places_and_numbers_up() -> None:
    history = History()
    versions = [f'rows{{version="{number}"}}' for number in range(MAX_SERIES - 1)]
    at = START
    history.add({"lives": 1.0} | dict.fromkeys(versions, 7.0), at)
    # The next version's series have no place while the others are young.
    history.add({"lives": 1.0, "new": 2.0}, at + 10)
    assert "new" not in history.names
    assert history.left_out == 1
    at += GONE_S + 100
    history.add({"lives": 3.0, "new": 2.0, versions[5]: 9.0}, at)
    assert history.left_out == 1
    assert len(history.names) == MAX_SERIES
    window = history.read(at - 20, at).window(["lives", "new", versions[5]])
    assert [window.columns[name][0].tolist()[-1] for name in ("lives", "new", versions[5])] == [3.0, 2.0, 9.0]
    # What had the place before is not in the new one's past, at any level, nor in the point that is not over yet.
    for span in (600, 3 * 3600, 30 * 86_400):
        told = history.read(at - span, at).window(["new"]).columns["new"][0]
        assert set(told[np.isfinite(told)].tolist()) == {2.0}
    gone = history.read(at - 3 * 3600, at).window([versions[6]]).columns
    assert versions[6] not in gone or not np.isfinite(gone[versions[6]][0]).any()


def test_a_process_that_changes_versions_for_weeks_stays_within_its_places_and_leaves_nothing_out() -> None:
    history = History()
    for version in range(60):
        names = [f'm{number}{{version="{version}"}}' for number in range(60)]
        for step in range(3):
            history.add(dict.fromkeys(names, float(version)), START + version * 3600 + step)
    assert len(history.names) == MAX_SERIES
    assert history.left_out == 0
    newest = history.read(START + 59 * 3600, START + 59 * 3600 + 5).window(names)
    assert all(column[0].tolist() == [59.0] * 3 for column in newest.columns.values())


def test_a_series_that_comes_back_before_its_place_is_taken_keeps_it() -> None:
    history = History()
    names = [f"s{number}" for number in range(MAX_SERIES)]
    history.add(dict.fromkeys(names, 1.0), START)
    history.add({"other": 1.0}, START + GONE_S)
    place = history.number("s500")
    history.add({"s500": 2.0}, START + GONE_S + 1)
    assert history.number("s500") == place
    assert history.names.count("s500") == 1


def test_a_gap_is_a_gap_and_nonsense_is_left_out() -> None:
    history = History()
    history.add({"x": 1.0, "y": 2.0}, START)
    history.add({"y": math.nan}, START + 1)
    history.add({"x": 3.0, "y": math.inf}, START + 2)
    window = history.read(START, START + 5).window(["x", "y", "unknown"])
    assert set(window.columns) == {"x", "y"}
    np.testing.assert_array_equal(window.columns["x"][0], [1, np.nan, 3])
    np.testing.assert_array_equal(window.columns["y"][0], [2, np.nan, np.nan])


def test_a_clock_that_is_set_back_begins_anew_from_there() -> None:
    history = History()
    for second in range(20):
        history.add({"x": 1.0}, START + second)
    assert history.add({"x": 2.0}, START + 18) == [], "a jitter of a second or two is no new time"
    history.add({"x": 2.0}, START - 3600)
    assert column(history, "x", START - 4000, START - 3500)[1] == [2.0]
    assert len(history.read(START - 600, START + 100).points) == 0


def test_thinning_keeps_means_peaks_and_gaps() -> None:
    history = History()
    for second in range(100):
        if not 40 <= second < 60:
            history.add({"x": float(second)}, START + second)
        else:
            history.add({}, START + second)
    thin = history.read(START, START + 100).window(["x"]).thinned(10)
    assert (thin.step_s, len(thin.times)) == (10, 10)
    means, peaks = thin.columns["x"]
    np.testing.assert_array_equal(means, [4.5, 14.5, 24.5, 34.5, np.nan, np.nan, 64.5, 74.5, 84.5, 94.5])
    np.testing.assert_array_equal(peaks, [9, 19, 29, 39, np.nan, np.nan, 69, 79, 89, 99])


def test_it_is_there_again_after_a_restart_whatever_the_numbers_of_series(database: Engine) -> None:
    history, store = History(), HistoryStore(database, "gateway")
    store.load(history, START)
    complete = [point for second in range(700) for point in history.add({"a": second, "b": -second}, START + second)]
    store.save(history.names, complete)
    other = HistoryStore(database, "agent")
    theirs = History()
    other.load(theirs, START + 700)
    assert theirs.names == ()

    again = History()
    again.number("b")  # another program's run met them in another order
    HistoryStore(database, "gateway").load(again, START + 700)
    for span in (500, 3600, 86_400):
        mine, its = history.read(START + 150, START + 150 + span), again.read(START + 150, START + 150 + span)
        assert [point.at for point in its.points][:50] == [point.at for point in mine.points][:50]
    np.testing.assert_array_equal(column(again, "b", START + 150, START + 690)[1], -np.arange(150.0, 691.0))


def test_series_that_nobody_tells_any_more_do_not_keep_new_ones_out(database: Engine) -> None:
    at = START
    for version in range(3):  # of a model, each with many series: together more than there are places
        store, history = HistoryStore(database, "x"), History()
        store.load(history, at)
        complete = history.add({f"v{version}.{number}": float(version) for number in range(150)}, at)
        store.save(history.names, complete)
        at += 60
    again = History()
    HistoryStore(database, "x").load(again, at)
    assert len(again.names) == MAX_RESTORED < MAX_SERIES
    assert {name for name in again.names if name.startswith("v2.")} == {f"v2.{number}" for number in range(150)}
    assert again.add({"fresh": 1.0}, at)
    assert again.left_out == 0
    for name in again.names:  # the points of a series without a place are nobody else's
        told = {value for value in column(again, name, START, at)[1] if not math.isnan(value)}
        assert told == {1.0 if name == "fresh" else float(name[1])}


def test_the_database_keeps_no_more_than_the_levels_say(database: Engine) -> None:
    levels = (Level(1, 20), Level(10, 5))
    history, store = History(levels), HistoryStore(database, "x")
    store.load(history, START)
    for batch in range(30):
        seconds = range(batch * 10, batch * 10 + 10)
        complete = [point for second in seconds for point in history.add({"a": 1.0}, START + second)]
        store.save(history.names, complete, levels)
    points = history_store.metadata.tables["history_points"]
    with reading(database) as connection:
        query = select(points.c.step_s, func.count().label("rows")).group_by(points.c.step_s)
        counts = {row.step_s: row.rows for row in connection.execute(query)}
    assert counts == {1: 20, 10: 4}, "the fifth of the coarse ones is not over yet"


def test_after_the_clock_was_set_back_the_future_is_forgotten_on_disk_too(database: Engine) -> None:
    history, store = History(), HistoryStore(database, "x")
    store.load(history, START)
    ahead = history.add({"a": 1.0}, START + 5000)
    store.save(history.names, ahead)
    store.save(history.names, history.add({"a": 2.0}, START))
    again = History()
    store.load(again, START + 6000)
    assert [point.at for point in again.read(START - 10, START + 10_000_000).points] == []
    fresh = History()
    store.load(fresh, START + 100)
    assert column(fresh, "a", START - 10, START + 100)[1] == [2.0]


def test_torn_rows_do_not_stop_a_program(database: Engine) -> None:
    history, store = History(), HistoryStore(database, "x")
    store.load(history, START)
    complete = history.add({"a": 1.0}, START)
    store.save(history.names, complete)
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE history_points SET packed = CAST(packed || x'0102' AS BLOB)")
    again = History()
    store.load(again, START + 10)
    assert column(again, "a", START, START + 10)[1] == [1.0]


async def test_a_store_that_takes_nothing_is_said_and_counted_and_the_charts_go_on(tmp_path: Path) -> None:
    now = [float(START)]
    attempts = 0

    class Full(HistoryStore):
        def save(self, *arguments: object) -> None:
            nonlocal attempts
            attempts += 1
            raise StorageError("database history.db refused: attempt to write a readonly database")

    def open_full() -> HistoryStore:
        return Full(open_database(sqlite_url(tmp_path / "full.db")), "x")

    recorder = HistoryRecorder(open_full, clock=lambda: now[0])
    await recorder._load()
    for _ in range(5):
        recorder._saved_at = -1e9
        await recorder.step([Family("g", Kind.GAUGE, "G.", [({}, 5)])])
        now[0] += 1
    assert attempts == 5
    assert recorder.newest == (START + 4, {"g": 5.0})
    assert len(recorder.history.read(START, START + 10).points) == 5
    values = {family.name: family.samples[0][1] for family in await recorder.families()}
    assert values["edgeward_history_failures_total"] == 5
    assert recorder._store is not None
    recorder._store.close()


async def test_a_run_records_by_itself_stores_at_its_end_and_survives_a_part_that_fails(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "history.db")
    looks = 0

    async def read() -> list[Family]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ZeroDivisionError
        return [Family("g", Kind.GAUGE, "G.", [({}, looks)])]

    recorder = HistoryRecorder(lambda: HistoryStore(open_database(url), "x"))
    running = asyncio.create_task(recorder.run(read))
    async with asyncio.timeout(20):
        while not recorder.newest[0]:
            async with recorder.stepped:
                await recorder.stepped.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    again = History()
    engine = open_database(url)
    HistoryStore(engine, "x").load(again, recorder.newest[0] + 5)
    engine.dispose()
    assert again.names == ("g",)
    assert again.read(recorder.newest[0], recorder.newest[0]).points


def test_a_month_fits_in_memory_and_on_disk() -> None:
    points = sum(level.points for level in LEVELS)
    assert points * 60 * 12 < 10e6
