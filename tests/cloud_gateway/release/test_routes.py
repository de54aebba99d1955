"""Releases over the admin API: what is taken, and what is refused before it reaches anything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_gateway.admin.app import admin_app
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.guards import Arm, MetricObservation
from cloud_gateway.release.reported import ReportedMetrics
from cloud_gateway.release.routes import ReleaseRoutes
from runtime.bundle.writing import pack
from tests.cloud_gateway.admin.serving import KEY
from tests.cloud_gateway.bundles import make_bundle
from tests.cloud_gateway.release.gateways import Gateway, Stock, begin_other, gateway
from tests.cloud_gateway.release.test_unreadable import unreadable

PLAN = {"model": "small", "stable": 1, "candidate": 2, "stages": [50, 100]}


class Api:
    def __init__(self, one: Gateway, client: httpx.AsyncClient) -> None:
        self.gateway = one
        self._client = client

    async def get(self, path: str) -> Any:
        return (await self._client.get(path)).json()

    async def post(self, path: str, body: object = None, status: int = 200) -> Any:
        reply = await self._client.post(path, json={} if body is None else body, headers=self.key)
        assert reply.status_code == status, reply.text
        return reply.json()

    key = {"authorization": f"Bearer {KEY}"}  # noqa: RUF012

    async def push(self, file: Path, status: int = 200) -> Any:
        content = await asyncio.to_thread(file.read_bytes)
        reply = await self._client.post("/admin/registry", content=content, headers=self.key)
        assert reply.status_code == status, reply.text
        return reply.json()


@pytest.fixture
async def api(stock: Stock, tmp_path: Path) -> AsyncIterator[Api]:
    async with gateway(stock, tmp_path / "gateway.db") as one:
        incoming = tmp_path / "incoming"
        one.controller.late.sources.append(reported := ReportedMetrics(one.store.engine))
        routes = ReleaseRoutes(one.controller, one.store, reported, stock.registry, incoming, 1 << 20).routes()
        app = admin_app(routes, AdminKey(KEY), is_loopback=True)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield Api(one, client)
        assert list(incoming.glob("*")) == [], "nothing that was pushed is left lying"


async def test_from_start_to_rollback(api: Api) -> None:
    assert (await api.get("/admin/releases")) == {"releases": []}
    assert (await api.post("/admin/releases", {"plan": PLAN}))["share"] == 0.5
    await api.post("/admin/releases", {"plan": PLAN}, status=409)
    assert (await api.get("/admin/releases/small"))["status"] == "running"
    assert (await api.post("/admin/releases/small/promote", {"to_percent": 70}))["share"] == 0.7
    assert (await api.post("/admin/releases/small/rollback", {"reason": "why not"}))["status"] == "rolled_back"
    (listed,) = (await api.get("/admin/releases"))["releases"]
    assert listed["reason"] == "rolled back by hand: why not"
    lines = (await api.get("/admin/audit?after=1&limit=1"))["lines"]
    assert [line["event"] for line in lines] == ["promote"]
    assert (await api.get("/admin/audit/check"))["is_whole"]


@pytest.mark.parametrize(
    ("path", "body", "status", "expected"),
    [
        ("/admin/releases", {}, 400, "'plan' is missing"),
        ("/admin/releases", {"plan": 7}, 400, "'plan' is 7; expected"),
        ("/admin/releases", {"plan": "model ="}, 400, "is not TOML"),
        ("/admin/releases", {"plan": {**PLAN, "candidat": 1}}, 400, "did you mean 'candidate'"),
        ("/admin/releases", {"plan": {**PLAN, "candidate": 99}}, 404, "not in the registry"),
        ("/admin/releases/small/explode", {}, 400, "nothing that a release does; expected one of promote"),
        ("/admin/releases/small/promote", {"to_percent": "all"}, 400, "expected a number"),
        ("/admin/releases/small/promote", {"to_percent": True}, 400, "expected a number"),
        ("/admin/releases/small/pause", {"reason": 7}, 400, "expected a text"),
        ("/admin/releases/small/pause", {}, 404, "has no release here"),
        ("/admin/releases/small/metrics", {"metrics": []}, 404, "no release that runs here"),
        ("/admin/releases/a%00b/pause", {}, 400, "which no database keeps"),
    ],
)
async def test_what_is_refused(api: Api, path: str, body: object, status: int, expected: str) -> None:
    assert expected in (await api.post(path, body, status))["error"]


async def test_a_release_that_cannot_be_read_is_listed_apart(api: Api) -> None:
    await api.post("/admin/releases", {"plan": PLAN})
    other = begin_other(api.gateway)
    with unreadable(api.gateway, other):
        told = await api.get("/admin/releases")
        assert [one["model"] for one in told["releases"]] == ["small"]
        (hidden,) = told["unreadable"]
        assert (hidden["release"], hidden["model"], hidden["status"]) == (other.id, "other", "running")
        assert "cannot be read" in hidden["why"]
    assert "unreadable" not in await api.get("/admin/releases")


async def test_metrics_reach_the_guards(api: Api) -> None:
    guards = [{"metric": "business", "name": "revenue", "margin": 0.5}]
    await api.post("/admin/releases", {"plan": {**PLAN, "guards": guards}})
    metric = {"name": "revenue", "value": 1.5, "release": "candidate", "segment": "de", "id": "order 7"}
    path = "/admin/releases/small/metrics"
    assert await api.post(path, {"metrics": [metric]}) == {"taken": 1, "known": 0}
    for wrong in ({"release": "both"}, {"value": "much"}, {"name": ""}, {"id": ""}, {"id": 7}, {"id": "x" * 128}):
        await api.post(path, {"metrics": [metric, {**metric, **wrong}]}, status=400)
    for body, said in (
        ({}, "the body has no 'metrics'"),
        ({"metrics": 7}, "'metrics' is 7; expected a list of 1 to 1000 metrics"),
        ({"metrics": []}, "'metrics' has 0 entries; expected 1 to 1000"),
    ):
        assert said in (await api.post(path, body, status=400))["error"]
    assert await api.post(path, {"metrics": [metric, metric]}) == {"taken": 0, "known": 2}, "told again"
    nameless = {key: value for key, value in metric.items() if key != "id"}
    assert await api.post(path, {"metrics": [nameless, {**nameless, "value": 2}]}) == {"taken": 2, "known": 0}
    for _ in range(3):
        await api.gateway.tick(1)
    active = api.gateway.traffic.active["small"]
    told = [MetricObservation(Arm.CANDIDATE, "revenue", value, "de") for value in (1.5, 1.5, 2.0)]
    assert active.evidence.watch.seen == told  # type: ignore[attr-defined]


async def test_bundles_are_pushed_whole_or_not_at_all(api: Api, tmp_path: Path) -> None:
    packed = pack(make_bundle(tmp_path / "7", 7), tmp_path / "7.tar")
    assert (await api.push(packed))["version"] == 7
    assert (await api.push(packed))["version"] == 7
    assert [line["event"] for line in (await api.get("/admin/audit"))["lines"]] == ["push", "push"]
    other = pack(make_bundle(tmp_path / "other", 7, is_other=True), tmp_path / "other.tar")
    assert "versions never change" in (await api.push(other, 409))["error"]
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"rubbish")
    await api.push(rubbish, 500)
    large = tmp_path / "large"
    large.write_bytes(bytes((1 << 20) + 1))
    await api.push(large, 413)
    versions = (await api.get("/admin/registry/small"))["versions"]
    assert 7 in [version["version"] for version in versions]
    assert "edgeward gateway push" in (await api.get("/admin/registry/nothing"))["error"]
    assert len((await api.get("/admin/registry"))["versions"]) == len(versions)


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=999999", "after=1.5"])
async def test_numbers_in_queries(api: Api, query: str) -> None:
    assert "expected a whole number" in (await api.get(f"/admin/audit?{query}"))["error"]
