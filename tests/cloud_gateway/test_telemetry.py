"""What devices send is capped, counted once, joined and kept; what is hostile is refused with its reason."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from cloud_gateway.devices import MAX_DEVICES, WINDOWS_PER_HOUR, Devices
from cloud_gateway.telemetry import Fleet
from cloud_gateway.windows import Kept, Windows, set_right
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError, InvalidInputError, ModelNotFoundError, OverloadedError, StorageError
from runtime.monitoring.blob import BlobError, to_blob
from runtime.monitoring.bundled import bundled_baseline
from runtime.monitoring.summary import Summary
from runtime.store import open_database, sqlite_url, writing
from tests.other_samples import with_samples


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Sender:
    """Windows of digits as a device would send them."""

    def __init__(self, digits: Bundle) -> None:
        samples, base = digits.samples(), bundled_baseline(digits)
        assert samples is not None
        assert base is not None
        self.images, self.outputs, self.base = samples.inputs["image"], samples.outputs["probabilities"], base

    def blob(self, rows: slice = slice(0, 100), change: Any = lambda v: v) -> bytes:
        summary = Summary(self.base)
        summary.update({"image": change(self.images[rows])}, {"probabilities": self.outputs[rows]})
        return to_blob(summary)

    def body(self, told: bytes | None = None, **over: Any) -> bytes:
        document = {"device": "pi", "window": uuid.uuid4().hex, "age_s": 5.0, "span_s": 30.0}
        document["blob"] = base64.b64encode(self.blob() if told is None else told).decode()
        return json.dumps(document | over).encode()


@pytest.fixture
def sender(digits: Bundle) -> Sender:
    return Sender(digits)


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    return Windows(open_database(sqlite_url(tmp_path / "drift.db")))


@pytest.fixture
def fleet(digits: Bundle, windows: Windows) -> Fleet:
    return make_fleet(digits, windows)


def make_fleet(
    digits: Bundle, windows: Windows | None, clock: Clock | None = None, calendar: Clock | None = None
) -> Fleet:
    """`clock` counts up, `calendar` is what people and NTP set."""

    def bundle_of(name: str, version: int) -> Bundle | None:
        return digits if (name, version) == ("digits", 1) else None

    return Fleet(bundle_of, windows, calendar or Clock(), clock or Clock(500.0))


def counted(fleet: Fleet) -> dict[str, float]:
    """What its metrics say, without what is nought."""
    samples = [sample for family in fleet.families() for sample in family.samples]
    return {" ".join(filter(None, labels.values())): float(count) for labels, count in samples if count}  # type: ignore[arg-type]


def test_devices_are_joined_and_drift_of_all_is_found(fleet: Fleet, sender: Sender) -> None:
    for device in range(8):
        rows = slice(device * 50, device * 50 + 100)
        told = fleet.take(sender.body(sender.blob(rows), device=f"pi-{device}"))
        assert told == {"accepted": True, "repeated": False, "stored": True}
    model = fleet.document()["models"][0]
    assert (model["rows"], model["is_drifting"]) == (800, False)
    shares = model["features"]["probabilities.class"]["reference"]["shares"]
    assert shares == [None] * 10, "what the devices' variants answer to the samples is not known here"
    assert len(fleet.document()["devices"]) == 8
    for device in range(4):
        fleet.take(sender.body(sender.blob(change=lambda v: 1 - v), device=f"pi-{device}"))
    model = fleet.document()["models"][0]
    assert "image.brightness" in [verdict["feature"] for verdict in model["verdicts"]]
    json.dumps(fleet.document(), allow_nan=False)


def test_a_window_counts_once_also_after_a_restart(digits: Bundle, windows: Windows, sender: Sender) -> None:
    first = make_fleet(digits, windows)
    body = sender.body()
    assert first.take(body)["repeated"] is False
    assert first.take(body)["repeated"] is True
    again = make_fleet(digits, windows)
    assert again.load() == 1
    assert again.take(body)["repeated"] is True
    assert again.document()["models"][0]["rows"] == 100


@pytest.mark.parametrize("age_s", [0.0, 86_400.0, 1e12])
def test_when_it_was_is_told_by_our_clock_and_an_age(
    digits: Bundle, windows: Windows, sender: Sender, age_s: float
) -> None:
    """A device a day off in its date tells durations alone; an absurd one counts as a week."""
    make_fleet(digits, windows).take(sender.body(age_s=age_s))
    (kept,) = windows.all(1_000_000.0)
    assert kept.ended == 1_000_000.0 - min(age_s, 7 * 86_400)
    assert kept.began == kept.ended - 30


def test_a_device_that_sends_too_much_is_dropped_and_counted(digits: Bundle, sender: Sender) -> None:
    clock = Clock(500.0)
    fleet = make_fleet(digits, None, clock)
    blob = sender.blob(slice(0, 60))
    for _ in range(2 * WINDOWS_PER_HOUR):  # what is refused costs its share too
        with pytest.raises(BlobError):
            fleet.take(sender.body(b"", blob="AAAA"))
    with pytest.raises(OverloadedError, match="'pi' sends more than 240 windows or 16 MiB an hour") as refused:
        fleet.take(sender.body(blob))
    assert refused.value.retry_after_s == 60
    fleet.take(sender.body(blob, device="another"))
    clock.now += 15.0
    fleet.take(sender.body(blob))
    told = fleet.document()
    assert told["counts"]["dropped"] == 1
    assert next(d for d in told["devices"] if d["device"] == "pi")["dropped"] == 1
    assert counted(fleet) == {"accepted": 2, "dropped": 1, "refused not_one": 2 * WINDOWS_PER_HOUR}


@pytest.mark.parametrize(
    ("over", "kind"),
    [
        ({"window": "../../etc"}, InvalidInputError),
        ({"device": ""}, InvalidInputError),
        ({"device": "a\nb"}, InvalidInputError),
        ({"age_s": -1.0}, InvalidInputError),
        ({"age_s": "5"}, InvalidInputError),
        ({"blob": "!!!!"}, InvalidInputError),
        ({"drifting": ["x"] * 65}, InvalidInputError),
        ({"drifting": ["x" * 1000]}, InvalidInputError),
        ({"private_rows": -1}, InvalidInputError),
        ({"private_rows": 1 << 60}, InvalidInputError),
        ({"blob": "AAAA"}, BlobError),
    ],
)
def test_a_wrong_envelope_is_refused(
    fleet: Fleet, sender: Sender, over: dict[str, Any], kind: type[EdgewardError]
) -> None:
    with pytest.raises(kind):
        fleet.take(sender.body(**over))
    assert sum(fleet.document()["counts"]["refused"].values()) == 1
    for raw in (b"", b"[]", b"\xff", b"x" * 4_000_000):
        with pytest.raises(InvalidInputError):
            fleet.take(raw)


def test_what_a_later_agent_says_beside_is_left_aside(fleet: Fleet, sender: Sender) -> None:
    assert fleet.take(sender.body(more=1)) == {"accepted": True, "repeated": False, "stored": True}


def test_another_model_or_bundle_is_refused_by_name(fleet: Fleet, sender: Sender) -> None:
    from dataclasses import replace

    strange = replace(sender.base, model="cats")
    with pytest.raises(ModelNotFoundError, match="'cats'"):
        fleet.take(sender.body(to_blob(Summary(strange))))
    edges = tuple(np.linspace(0, 1, 5).tolist())
    first, *rest = sender.base.references
    other = replace(sender.base, references=(first.model_copy(update={"edges": edges}), *rest))
    with pytest.raises(BlobError, match="the bundle there is another one"):
        fleet.take(sender.body(to_blob(Summary(other))))
    assert fleet.document()["counts"]["refused"] == {"envelope": 1, "baseline": 1}
    assert counted(fleet) == {"refused envelope": 1, "refused baseline": 1}


def test_a_store_that_takes_nothing_keeps_nothing_from_being_counted(
    digits: Bundle, windows: Windows, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise StorageError("attempt to write a readonly database")

    monkeypatch.setattr(windows, "add", refuse)
    fleet = make_fleet(digits, windows)
    body = sender.body()
    assert fleet.take(body) == {"accepted": True, "repeated": False, "stored": False}
    assert fleet.take(body)["repeated"] is True
    assert fleet.document()["counts"]["not_stored"] == 1
    assert counted(fleet) == {"accepted": 1, "repeated": 1, "": 1}, "the last is what is not stored"


def test_a_read_only_database_says_so(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "drift.db"))
    windows = Windows(engine)
    with engine.connect() as connection:
        connection.execute(text("pragma query_only=on"))
        connection.commit()
    with pytest.raises(StorageError, match="readonly"):
        windows.add(Kept("d", "0" * 32, 0, 1, b"x"), 2.0)


def test_the_store_is_bounded(tmp_path: Path) -> None:
    windows = Windows(open_database(sqlite_url(tmp_path / "drift.db")), max_windows=20)
    for at in range(50):
        assert windows.add(Kept("d", f"{at:032x}", at, at + 1, b"x" * 100), float(at))
        assert not windows.add(Kept("d", f"{at:032x}", at, at + 1, b"x"), float(at))
    kept = list(windows.all(50.0))
    assert len(kept) <= 20
    assert kept[-1].window == f"{49:032x}"


def test_a_damaged_row_of_the_store_is_left_out(tmp_path: Path, digits: Bundle, sender: Sender) -> None:
    engine = open_database(sqlite_url(tmp_path / "drift.db"))
    windows = Windows(engine)
    windows.add(Kept("d", "0" * 32, 0, 1, sender.blob()), 0.0)
    windows.add(Kept("d", "1" * 32, 0, 1, sender.blob()), 0.0)
    with writing(engine) as connection:
        connection.execute(text("update drift_windows set blob = x'00' where window = :w"), {"w": "0" * 32})
    assert make_fleet(digits, windows).load() == 1


def test_a_bundle_that_takes_anothers_place_under_one_version_begins_anew(
    digits: Bundle, sender: Sender, tmp_path: Path
) -> None:
    served = [digits]
    fleet = Fleet(lambda *_: served[-1], None, Clock())
    fleet.take(sender.body())
    brightest = np.argsort(sender.images.mean(axis=(1, 2, 3)))[-150:]
    served.append(with_samples(digits, tmp_path / "bright", brightest))
    with pytest.raises(BlobError, match="the bundle there is another one"):
        fleet.take(sender.body())
    fleet.take(Sender(served[-1]).body())
    (told,) = fleet.document()["models"]
    base = bundled_baseline(served[-1])
    assert base is not None
    assert (told["rows"], told["baseline"]["key"]) == (100, base.key)


@pytest.mark.slow
def test_a_gateway_whose_clock_is_set_back_a_day_sees_what_devices_see_now(
    digits: Bundle, windows: Windows, sender: Sender
) -> None:
    clock, calendar = Clock(500.0), Clock()
    fleet = make_fleet(digits, windows, clock, calendar)
    calm, inverted = sender.blob(slice(0, 450)), sender.blob(change=lambda v: 1 - v)

    def send(blob: bytes, times: int) -> None:
        for _ in range(times):
            clock.now += 15
            calendar.now += 15
            fleet.take(sender.body(blob))

    def found(by: Fleet) -> dict[str, Any]:
        return {one["feature"]: one for one in by.document()["models"][0]["verdicts"]}

    send(calm, 130)  # as many blocks as the test holds
    assert found(fleet) == {}
    calendar.now -= 86_400
    send(inverted, 4)
    assert found(fleet)["image.brightness"]["since"] == clock.now - 3 * 15 - 35, "when the first of them began"
    assert fleet.document()["devices"][0]["last_unix"] == calendar.now - 5
    # What is on disk is put in the order in which it came, not in that of its dates.
    again = make_fleet(digits, windows, Clock(20.0), calendar)
    assert again.load() == 134
    assert "image.brightness" in found(again)
    assert again.document()["devices"][0]["last_unix"] == calendar.now - 5


@pytest.mark.slow
def test_a_device_that_drifts_alone_is_named_where_the_rows_of_all_are_calm(
    digits: Bundle, windows: Windows, sender: Sender
) -> None:
    clock = Clock(500.0)
    fleet = make_fleet(digits, windows, clock)

    def told(by: Fleet) -> dict[str, Any]:
        found: dict[str, Any] = by.document()["models"][0]["by_device"]
        metric = next(family for family in by.families() if family.name == "edgeward_drifting_devices")
        assert [count for _, count in metric.samples] == [found["drifting"]]
        return found

    def all_others() -> None:
        for device in range(60):
            fleet.take(sender.body(sender.blob(slice(device, device + 390)), device=f"pi-{device}", drifting=[]))

    all_others()
    known = {"not_known": 0, "private_rows": 0}
    assert told(fleet) == {"devices": 60, "drifting": 0, "names": [], **known}
    inverted = sender.blob(slice(0, 60), change=lambda v: 1 - v)
    fleet.take(sender.body(inverted, device="pi-60", drifting=["image.brightness", "made up"]))
    named = [{"device": "pi-60", "features": ["image.brightness"]}]
    all_others()
    assert told(fleet) == {"devices": 61, "drifting": 1, "names": named, **known}
    # A window of before, which comes late, says nothing of now.
    fleet.take(sender.body(device="pi-60", age_s=3600.0))
    assert told(fleet)["names"] == named
    again = make_fleet(digits, windows, clock)
    again.load()
    assert told(again) == {"devices": 61, "drifting": 1, "names": named, **known}, "what was told before a start"
    clock.now += 60
    fleet.take(sender.body(device="pi-60"))
    assert told(fleet)["drifting"] == 0
    clock.now += 2 * 86_400
    assert told(fleet)["devices"] == 0, "whoever is not heard of any more"


@pytest.mark.slow
def test_what_joined_rows_showed_stands_with_its_device_while_that_says_that_it_drifts(
    digits: Bundle, windows: Windows, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(500.0)
    fleet = make_fleet(digits, windows, clock)

    def told(by: Fleet) -> dict[str, list[str]]:
        (model,) = by.document()["models"]
        found = {one["feature"]: one["devices"] for one in model["verdicts"]}
        assert model["is_drifting"] is bool(found)
        assert {one.feature for one in by.verdicts()["digits", 1]} == set(found)
        return found

    def all_others() -> None:
        for device in range(30):
            clock.now += 1
            fleet.take(sender.body(sender.blob(slice(device, device + 390)), device=f"pi-{device}"))

    all_others()
    assert told(fleet) == {}
    caplog.clear()
    inverted = sender.blob(slice(0, 300), change=lambda v: 1 - v)
    drifting = ["image.brightness"]
    for _ in range(2):
        clock.now += 1
        fleet.take(sender.body(inverted, device="bad", drifting=drifting))
        assert told(fleet)["image.brightness"] == ["bad"]
        all_others()
        assert told(fleet) == {"image.brightness": ["bad"]}, "its rows are no longer among the newest"
    said = [one.getMessage() for one in caplog.records if "image.brightness" in one.getMessage()]
    assert len(said) == 1, "told once, however often its rows are the newest"
    again = make_fleet(digits, windows, clock)
    again.load()
    assert told(again) == {"image.brightness": ["bad"]}, "a start forgets nothing of it"
    clock.now += 1
    fleet.take(sender.body(device="bad"))
    assert told(fleet).get("image.brightness", []) == []
    for _ in range(5):
        all_others()
    assert told(fleet) == {}, "none of its rows are among the newest 128 windows"


def test_of_a_device_with_private_rows_it_is_not_known_whether_it_drifts(
    digits: Bundle, windows: Windows, sender: Sender
) -> None:
    clock = Clock(500.0)
    fleet = make_fleet(digits, windows, clock)

    def told(by: Fleet) -> tuple[int, int, int]:
        found: dict[str, Any] = by.document()["models"][0]["by_device"]
        metric = next(one for one in by.families() if one.name == "edgeward_devices_not_known_to_drift")
        assert [count for _, count in metric.samples] == [found["not_known"]]
        return found["drifting"], found["not_known"], found["private_rows"]

    fleet.take(sender.body(device="open"))
    assert told(fleet) == (0, 0, 0)
    for rows in (30, 12):
        fleet.take(sender.body(device="private", private_rows=rows))
    assert told(fleet) == (0, 1, 42)
    fleet.take(sender.body(device="both", private_rows=7, drifting=["image.brightness"]))
    assert told(fleet) == (1, 1, 42), "of that one it is known"
    again = make_fleet(digits, windows, clock)
    again.load()
    assert told(again) == (1, 1, 42), "a start forgets nothing of it"
    clock.now += 86_000
    for device in ("private", "both"):
        fleet.take(sender.body(device=device))
    assert told(fleet) == (0, 2, 49), "the private rows of a day may still drift"
    clock.now += 2 * 86_400
    fleet.take(sender.body(device="private"))
    assert told(fleet) == (0, 0, 0), "none came for a day"
    fleet.take(sender.body(device="private", private_rows=5))
    assert told(fleet) == (0, 1, 5), "those of days ago are not counted again"


def test_devices_that_were_not_heard_of_for_longest_are_forgotten() -> None:
    devices = Devices()
    for number in range(MAX_DEVICES + 5):
        devices.seen(f"pi-{number}", float(number)).tell(("m", 1), float(number), ("x",))
        devices.seen("pi-0", float(number))
    told = devices.that_tell_of(("m", 1), float(MAX_DEVICES))
    assert told["drifting"] == MAX_DEVICES
    assert [one["device"] for one in told["names"][:2]] == ["pi-0", "pi-6"], "those that drift for longest"


@pytest.mark.parametrize(
    ("received", "now", "right"),
    [
        ([], 5.0, []),
        ([1.0, 2.0, 3.0], 5.0, [1.0, 2.0, 3.0]),
        # Ahead for a while, then set right; and set back since the last one came.
        ([1.0, 90.0, 91.0, 4.0, 5.0], 6.0, [1.0, 4.0, 4.0, 4.0, 5.0]),
        ([1.0, 90.0], 3.0, [1.0, 3.0]),
    ],
)
def test_nothing_came_after_what_came_later(received: list[float], now: float, right: list[float]) -> None:
    assert set_right(received, now) == right
