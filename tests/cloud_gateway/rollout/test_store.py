"""Rollouts in a database: who is next, what reports lead to, two gateways, restarts, and what a person may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.rollout.gate import next_devices, position
from cloud_gateway.rollout.store import FLEET_AGE_S, Outcome, Promoted, RolloutStore
from runtime.errors import ConflictError, ModelNotFoundError
from runtime.store import open_database, sqlite_url, writing

pytestmark = pytest.mark.slow

DEVICES = [f"camera-{number}" for number in range(40)]
WAVES = (0.01, 0.05, 0.25, 1.0)


@dataclass
class Place:
    """A database, and stores of gateways on it."""

    file: Path
    now: float = 1_000_000.0

    def gateway(self, me: str = "me") -> ReleaseStore:
        return ReleaseStore(open_database(sqlite_url(self.file)), me, lambda: self.now)

    def begin(
        self, store: ReleaseStore, release: int = 1, *, stable: int = 1, shares: tuple[float, ...] = WAVES
    ) -> None:
        with writing(store.engine) as connection:
            store.rollouts.begin_in(connection, Promoted(release, "m", stable, stable + 1, shares, 0.01, 0.05))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "gateway.db")


def sync_all(rollouts: RolloutStore, outcome: Callable[[str], Outcome], known: set[str], version: int = 2) -> set[str]:
    """Every device asks; who gets the version for the first time says what became of it. Who got it."""
    got = set()
    for device in DEVICES:
        if rollouts.offered(device, ["m"]).get("m", version) == version and device not in known:
            got.add(device)
            rollouts.report(device, "m", version, outcome(device), "")
    known |= got
    return got


def kept(_: str) -> Outcome:
    return Outcome.KEPT


def events(store: ReleaseStore) -> list[str]:
    assert store.check_audit()[2] is None
    return [line.event for line in store.audit()]


def test_the_order_is_a_hash_of_release_and_device() -> None:
    assert position(1, "a") == position(1, "a") != position(2, "a")
    assert all(0 <= position(1, device) < 1 for device in DEVICES)
    order = sorted(DEVICES, key=lambda device: position(7, device))
    assert next_devices(7, DEVICES, 3) == set(order[:3])
    assert next_devices(7, DEVICES, -1) == set()


def test_a_healthy_version_reaches_every_device_wave_by_wave(place: Place) -> None:
    store = place.gateway()
    assert sync_all(store.rollouts, kept, set()) == set(DEVICES), "no rollout decides: the route offers what is settled"
    place.begin(store)
    known: set[str] = set()
    sizes = []
    while len(known) < len(DEVICES):
        sizes.append(len(sync_all(store.rollouts, kept, known)))
        assert len(sizes) < 20
    told = store.rollouts.describe(1)
    assert told is not None
    assert (told["status"], told["outcomes"]) == ("done", {"kept": 38}), "95 % have told: the others no longer wait"
    assert events(store) == ["waves_begin", "waves_advance", "waves_advance", "waves_advance", "waves_done"]
    assert store.rollouts.offered("camera-0", ["m"]) == {}, "nothing is held back any more"


def test_one_fifth_that_fails_halts_it_and_every_device_gets_back_what_it_had(place: Place) -> None:
    store = place.gateway()
    sync_all(store.rollouts, kept, set())
    place.begin(store)
    known: set[str] = set()
    bad = set(sorted(DEVICES, key=lambda device: position(1, device))[::5])
    for _ in range(5):
        sync_all(store.rollouts, lambda one: Outcome.CRASHED if one in bad else Outcome.KEPT, known)
    told = store.rollouts.describe(1)
    assert told is not None
    assert told["status"] == "halted"
    assert "harms devices" in told["reason"]
    assert told["outcomes"]["crashed"] <= 3
    assert len(known) <= 10, "the third wave"
    assert {store.rollouts.offered(device, ["m"])["m"] for device in DEVICES} == {1}
    assert events(store)[-1] == "waves_halted"


def test_each_device_counts_once_and_only_if_it_was_given_the_version(place: Place) -> None:
    store = place.gateway()
    sync_all(store.rollouts, kept, set())
    place.begin(store)
    first = min(DEVICES, key=lambda device: position(1, device))
    assert not store.rollouts.report(first, "m", 2, Outcome.KEPT, "not asked for yet")
    assert [device for device in DEVICES if store.rollouts.offered(device, ["m"])["m"] == 2] == [first]
    assert not store.rollouts.report(first, "m", 7, Outcome.KEPT, "another version")
    assert not store.rollouts.report(first, "n", 2, Outcome.KEPT, "another model")
    assert store.rollouts.report(first, "m", 2, Outcome.CRASHED, "twice")
    assert not store.rollouts.report(first, "m", 2, Outcome.KEPT, "again")
    told = store.rollouts.describe(1)
    assert told is not None
    assert told["outcomes"] == {"crashed": 1}


def test_two_gateways_and_a_restart_go_on_where_the_database_is(place: Place) -> None:
    one, two = place.gateway("one"), place.gateway("two")
    sync_all(one.rollouts, kept, set())
    place.begin(one)
    known: set[str] = set()
    for turn in range(20):
        store = (one, two)[turn % 2] if turn < 3 else place.gateway(f"again {turn}")
        sync_all(store.rollouts, kept, known)
        told = store.rollouts.describe(1)
        assert told is not None
        assert told["given"] <= max(told["allowed"], 1)
        if told["status"] == "done" and known == set(DEVICES):
            break
    assert known == set(DEVICES)
    assert events(two).count("waves_done") == 1


def test_a_device_that_falls_silent_makes_room_for_another(place: Place) -> None:
    store = place.gateway()
    sync_all(store.rollouts, kept, set())
    place.begin(store)
    first, second = sorted(DEVICES, key=lambda device: position(1, device))[:2]
    assert store.rollouts.offered(first, ["m"]) == {"m": 2}
    assert store.rollouts.offered(second, ["m"]) == {"m": 1}
    place.now += FLEET_AGE_S + 1
    assert store.rollouts.offered(second, ["m"]) == {"m": 2}


def test_who_does_not_say_its_name_waits_for_the_end(place: Place) -> None:
    store = place.gateway()
    place.begin(store)
    assert store.rollouts.offered("", ["m"]) == {"m": 1}
    assert store.rollouts.offered("camera-0", []) == {"m": 1}, "nor who does not keep the model current"
    assert store.rollouts.offered("camera-0", ["m"]) == {"m": 2}, "the first of a fleet of one"


def test_a_later_release_takes_over_and_devices_keep_what_every_device_had(place: Place) -> None:
    store = place.gateway()
    sync_all(store.rollouts, kept, set())
    place.begin(store)
    store.rollouts.halt("m", "noise")
    place.begin(store, 2, stable=2)
    told = store.rollouts.describe(2)
    assert told is not None
    assert told["devices_before"] == 1, "version 2 never came to the devices"
    place.begin(store, 3, stable=3, shares=())
    assert store.rollouts.offered("camera-0", ["m"]) == {}
    assert events(store) == ["waves_begin", "waves_halted", "waves_superseded", "waves_begin", "waves_superseded"]


def test_a_person_halts_and_finishes(place: Place) -> None:
    store = place.gateway()
    with pytest.raises(ModelNotFoundError, match="waves = "):
        store.rollouts.halt("m", "")
    sync_all(store.rollouts, kept, set())
    place.begin(store)
    store.rollouts.halt("m", "a call from the field")
    with pytest.raises(ConflictError, match="halted already: halted by hand: a call from the field"):
        store.rollouts.halt("m", "")
    store.rollouts.finish("m", "")
    assert store.rollouts.offered("camera-0", ["m"]) == {}
