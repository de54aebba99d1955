"""What agents and people may say of a rollout, over HTTP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cloud_gateway.admin.app import admin_app
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.registry import open_registry
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.rollout.offers import DeviceOffers
from cloud_gateway.rollout.routes import outcome_route, wave_route
from cloud_gateway.rollout.store import Promoted
from runtime.bundle.bundle import Bundle
from runtime.bundle.writing import pack
from runtime.serving.additions import Additions
from runtime.serving.controls import Controls
from runtime.serving.rest.app import rest_app
from runtime.store import open_database, sqlite_url, writing
from tests.cloud_gateway.admin.serving import KEY
from tests.cloud_gateway.bundles import make_bundle
from tests.runtime.serving.fake_service import FakeService


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    made = ReleaseStore(open_database(sqlite_url(tmp_path / "gateway.db")), "me")
    with writing(made.engine) as connection:
        made.rollouts.begin_in(connection, Promoted(1, "small", 1, 2, (0.5, 1.0), 0.01, 0.05))
    return made


async def test_outcomes_are_counted_once_and_what_is_none_is_refused(store: ReleaseStore, tmp_path: Path) -> None:
    additions = Additions(routes=[outcome_route(store.rollouts)])
    app = rest_app(FakeService(), Controls.under(tmp_path, 1, None), max_body_bytes=1, additions=additions)
    assert store.rollouts.offered("camera", ["small"]) == {"small": 2}
    told = {"model": "small", "version": 2, "outcome": "rolled_back", "reason": "it does not load" * 100}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:

        async def tell(**body: Any) -> httpx.Response:
            return await client.post("/edgeward/bundles/outcomes", json=body)

        for expected in (1, 0):
            assert (await tell(device="camera", outcomes=[told])).json() == {"counted": expected}
        for body, said in (
            ({"device": "", "outcomes": []}, "device"),
            ({"device": "camera", "outcomes": [told | {"outcome": "exploded"}]}, "outcomes.0.outcome"),
            ({"device": "camera", "outcomes": [told] * 101}, "outcomes"),
            ({"outcomes": []}, "device"),
        ):
            refused = await tell(**body)
            assert refused.status_code == 400
            assert f"no outcomes of versions: {said}" in refused.json()["error"]


async def test_names_that_no_database_keeps_are_refused_and_a_reason_is_kept_without(
    store: ReleaseStore, tmp_path: Path
) -> None:
    additions = Additions(routes=[outcome_route(store.rollouts)])
    app = rest_app(FakeService(), Controls.under(tmp_path, 1, None), max_body_bytes=1, additions=additions)
    told = {"model": "small", "version": 2, "outcome": "rolled_back", "reason": "it said \0"}
    assert store.rollouts.offered("camera", ["small"]) == {"small": 2}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        for device, model in (("camera\0", "small"), ("camera", "small\0")):
            body = {"device": device, "outcomes": [told | {"model": model}]}
            refused = await client.post("/edgeward/bundles/outcomes", json=body)
            assert (refused.status_code, "which no database keeps" in refused.json()["error"]) == (400, True)
        counted = await client.post("/edgeward/bundles/outcomes", json={"device": "camera", "outcomes": [told]})
        assert counted.json() == {"counted": 1}


async def test_a_person_halts_over_the_admin_port(store: ReleaseStore) -> None:
    app = admin_app([wave_route(store.rollouts)], AdminKey(KEY), is_loopback=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:

        async def ask(body: Any, key: str = KEY) -> httpx.Response:
            headers = {"authorization": f"Bearer {key}"}
            return await client.post("/admin/releases/small/waves", json=body, headers=headers)

        assert (await ask({"action": "halt"}, "another key")).status_code == 401
        refused = await ask({"action": "stop"})
        assert (refused.status_code, "expected one of halt, finish" in refused.json()["error"]) == (400, True)
        assert (await ask({"action": "halt", "reason": "seen enough"})).status_code == 200
        again = await ask({"action": "halt"})
        assert (again.status_code, "seen enough" in again.json()["error"]) == (409, True)
    assert store.rollouts.offered("camera", ["small"]) == {"small": 1}


def test_what_devices_had_before_is_found_where_it_is_served_no_more(store: ReleaseStore, tmp_path: Path) -> None:
    bundles = {version: make_bundle(tmp_path / f"small-{version}", version) for version in (1, 2)}
    registry = open_registry(str(tmp_path / "registry"), tmp_path / "cache")

    def offers(first: dict[tuple[str, int], Bundle]) -> DeviceOffers:
        model = SimpleNamespace(name="small", version=2, bundle=bundles[2])
        engine: Any = SimpleNamespace(models=lambda: [model])
        return DeviceOffers(engine, lambda _: "2", store.rollouts, registry, first)

    def versions(made: DeviceOffers, device: str) -> list[int]:
        return [bundle.version for bundle in made.offered(device, ["small"])]

    assert versions(offers({}), "") == [], "nowhere: no version rather than the one that is held back"
    assert versions(offers({("small", 1): bundles[1]}), "") == [1]
    registry.push(pack(bundles[1], tmp_path / "small-1.tar"))
    made = offers({})
    assert versions(made, "") == [1]
    assert versions(made, "camera") == [2]
    assert made.names() == ["small 1", "small 2"]
    assert made.find("small", 7) is None
    store.rollouts.finish("small", "")
    assert versions(made, "") == [2]
    assert made.find("small", 1) is None
