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

from cloud_gateway.telemetry import WINDOWS_PER_HOUR, Fleet
from cloud_gateway.windows import Kept, Windows
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError, InvalidInputError, ModelNotFoundError, OverloadedError, StorageError
from runtime.monitoring.blob import BlobError, to_blob
from runtime.monitoring.bundled import bundled_baseline
from runtime.monitoring.summary import Summary
from runtime.store import open_database, sqlite_url, writing
from tests.other_samples import with_samples


class Clock:
    now = 1_000_000.0

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


def make_fleet(digits: Bundle, windows: Windows | None, clock: Clock | None = None) -> Fleet:
    return Fleet(lambda name, version: digits if (name, version) == ("digits", 1) else None, windows, clock or Clock())


def test_devices_are_joined_and_drift_of_all_is_found(fleet: Fleet, sender: Sender) -> None:
    for device in range(8):
        rows = slice(device * 50, device * 50 + 100)
        told = fleet.take(sender.body(sender.blob(rows), device=f"pi-{device}"))
        assert told == {"accepted": True, "repeated": False, "stored": True}
    model = fleet.document()["models"][0]
    assert (model["rows"], model["is_drifting"]) == (800, False)
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
    (kept,) = windows.all()
    assert kept.ended == 1_000_000.0 - min(age_s, 7 * 86_400)
    assert kept.began == kept.ended - 30


def test_a_device_that_sends_too_much_is_dropped_and_counted(digits: Bundle, sender: Sender) -> None:
    clock = Clock()
    fleet = make_fleet(digits, None, clock)
    blob = sender.blob(slice(0, 60))
    for _ in range(2 * WINDOWS_PER_HOUR):
        try:
            fleet.take(sender.body(blob))
        except OverloadedError:
            break
    with pytest.raises(OverloadedError, match="'pi' sends more than 240 windows or 16 MiB an hour") as refused:
        fleet.take(sender.body(blob))
    assert refused.value.retry_after_s == 60
    fleet.take(sender.body(blob, device="another"))
    clock.now += 3600
    fleet.take(sender.body(blob))
    told = fleet.document()
    assert told["counts"]["dropped"] >= 1
    assert next(d for d in told["devices"] if d["device"] == "pi")["dropped"] >= 1


@pytest.mark.parametrize(
    ("over", "kind"),
    [
        ({"window": "../../etc"}, InvalidInputError),
        ({"device": ""}, InvalidInputError),
        ({"device": "a\nb"}, InvalidInputError),
        ({"age_s": -1.0}, InvalidInputError),
        ({"age_s": "5"}, InvalidInputError),
        ({"more": 1}, InvalidInputError),
        ({"blob": "!!!!"}, InvalidInputError),
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
    kept = list(windows.all())
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
