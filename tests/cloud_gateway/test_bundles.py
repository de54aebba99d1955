"""Bundles over HTTP: an index, whole tars that are the same bytes each time, parts of them, and keys where keys are."""

import hashlib
import logging
import os
import tarfile
import threading
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cloud_gateway import bundles
from cloud_gateway.bundles import bundle_routes, served_bundles
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.errors import UnauthenticatedError
from runtime.serving.additions import Additions
from runtime.serving.controls import Controls
from runtime.serving.rest.app import rest_app
from tests.runtime.serving.fake_service import FakeService


@dataclass
class Offered:
    """The same for every device; remembers who asked."""

    bundles: list[Bundle]
    asked: list[tuple[str, list[str]]] = field(default_factory=list)

    def offered(self, device: str, models: Collection[str]) -> list[Bundle]:
        self.asked.append((device, list(models)))
        return list(self.bundles)

    def find(self, model: str, version: int) -> Bundle | None:
        return next((one for one in self.bundles if (one.name, one.version) == (model, version)), None)

    def names(self) -> list[str]:
        return [f"{one.name} {one.version}" for one in self.bundles]


def authorize(key: str | None) -> None:
    if key != "good":
        raise UnauthenticatedError("no")


@pytest.fixture
async def client(digits: Bundle, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = rest_app(
        FakeService(),
        Controls.under(tmp_path, 1, None),
        authorize=authorize,
        max_body_bytes=1,
        additions=Additions(routes=bundle_routes(Offered([digits]), tmp_path / "bundles")),
    )
    headers = {"authorization": "Bearer good"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", headers=headers) as made:
        yield made


@pytest.mark.parametrize("query", ["device=a%00", "device=a&model=digits&model=%00"])
async def test_names_that_no_database_keeps_are_refused(client: httpx.AsyncClient, query: str) -> None:
    refused = await client.get(f"/edgeward/bundles?{query}")
    assert (refused.status_code, "which no database keeps" in refused.json()["error"]) == (400, True)


async def test_index_and_tar_agree_and_the_tar_is_the_bundle(
    client: httpx.AsyncClient, digits: Bundle, tmp_path: Path
) -> None:
    (entry,) = (await client.get("/edgeward/bundles")).json()["bundles"]
    assert (entry["model"], entry["version"], entry["digest"]) == ("digits", 1, digits.digest)
    reply = await client.get("/edgeward/bundles/digits/1")
    assert reply.status_code == 200
    assert (len(reply.content), hashlib.sha256(reply.content).hexdigest()) == (entry["size_bytes"], entry["sha256"])
    assert reply.headers["etag"] == f'"{entry["sha256"]}"'
    (tmp_path / "x.tar").write_bytes(reply.content)
    with tarfile.open(tmp_path / "x.tar") as tar:
        tar.extractall(tmp_path / "x", filter="data")
    assert read_bundle(tmp_path / "x" / "digits").digest == digits.digest


async def test_parts_of_it_while_it_is_the_same(client: httpx.AsyncClient) -> None:
    whole = await client.get("/edgeward/bundles/digits/1")
    etag = whole.headers["etag"]
    rest = await client.get("/edgeward/bundles/digits/1", headers={"range": "bytes=1000-", "if-range": etag})
    assert (rest.status_code, rest.content) == (206, whole.content[1000:])
    other = await client.get("/edgeward/bundles/digits/1", headers={"range": "bytes=1000-", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)


def test_a_candidate_is_offered_to_no_device_before_all_requests_go_to_it() -> None:
    def model(name: str, version: int, manifest: object = "there") -> SimpleNamespace:
        bundle = SimpleNamespace(name=name, version=version, manifest=manifest)
        return SimpleNamespace(name=name, version=version, bundle=bundle)

    engine: Any = SimpleNamespace(models=lambda: [model("m", 1), model("m", 2), model("n", 7), model("bare", 1, None)])

    def offered(pins: dict[str, str]) -> list[tuple[str, int]]:
        return [(bundle.name, bundle.version) for bundle in served_bundles(engine, pins.get)]

    assert offered({"m": "1"}) == [("m", 1), ("n", 7)], "under release, or rolled back"
    assert offered({"m": "2"}) == [("m", 2), ("n", 7)], "promoted"
    assert offered({}) == [("m", 1), ("m", 2), ("n", 7)]


async def test_a_tar_is_hashed_once_and_never_on_the_event_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[threading.Thread] = []

    def sha256_of(path: Path) -> str:
        hashed.append(threading.current_thread())
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(bundles, "sha256_of", sha256_of)
    for path in ("/edgeward/bundles", "/edgeward/bundles/digits/1") * 2:
        assert (await client.get(path)).status_code == 200
    assert len(hashed) == 1
    assert hashed[0] is not threading.current_thread()


async def test_what_is_offered_no_more_goes_a_day_later(
    digits: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cloud_gateway.bundles")
    folder, now, offered = tmp_path / "bundles", [1e9], [digits]
    routes = bundle_routes(Offered(offered), folder, lambda: now[0])
    app = rest_app(
        FakeService(), Controls.under(tmp_path, 1, None), max_body_bytes=1, additions=Additions(routes=routes)
    )
    tar = folder / f"{digits.digest}.tar"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:

        async def look_after(hours: float) -> set[str]:
            now[0] += hours * 3600
            assert (await client.get("/edgeward/bundles")).status_code == 200
            return {path.name for path in folder.iterdir()}

        await look_after(0)
        for name in ("old.tar", "new.tar", ".cut-off.tar-x"):
            path = folder / name
            path.mkdir() if name.startswith(".") else path.write_bytes(b"x")
            os.utime(path, (now[0] + (20 * 3600 if name == "new.tar" else 0),) * 2)
        assert len(await look_after(23)) == 4, "as long as the grace lasts"
        assert await look_after(2) == {tar.name, "new.tar"}
        assert await look_after(1000) == {tar.name}, "what is offered stays, however old"
        whole = (await client.get("/edgeward/bundles/digits/1")).content
        offered.clear()
        with tar.open("rb") as on_its_way:
            assert await look_after(23) == {tar.name}
            assert await look_after(2) == set()
            assert on_its_way.read() == whole
        offered.append(digits)
        assert (await client.get("/edgeward/bundles/digits/1")).content == whole, "made again where it is wanted again"
    assert f"{tar.name} ({len(whole)} bytes) was not offered to devices for 24 h and is removed" in caplog.text


async def test_what_is_not_offered_and_who_has_no_key(client: httpx.AsyncClient) -> None:
    missing = await client.get("/edgeward/bundles/digits/7")
    assert (missing.status_code, missing.json()["error"]) == (
        404,
        "no bundle of model 'digits' version '7' is offered here; offered: digits 1",
    )
    for path in ("/edgeward/bundles", "/edgeward/bundles/digits/1"):
        assert (await client.get(path, headers={"authorization": "Bearer bad"})).status_code == 401


async def test_who_asks_and_for_what_is_handed_on_within_bounds(digits: Bundle, tmp_path: Path) -> None:
    offers = Offered([digits])
    additions = Additions(routes=bundle_routes(offers, tmp_path / "b"))
    app = rest_app(FakeService(), Controls.under(tmp_path, 1, None), max_body_bytes=1, additions=additions)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        await client.get("/edgeward/bundles?device=camera%207&model=a&model=b")
        assert offers.asked == [("camera 7", ["a", "b"])]
        for query in ("device=" + "x" * 129, "&".join(["model=a"] * 257)):
            refused = await client.get(f"/edgeward/bundles?{query}")
            assert refused.status_code == 400
            assert "at most 128 and 256 are taken" in refused.json()["error"]
        assert (await client.get("/edgeward/bundles/digits/x")).status_code == 404
