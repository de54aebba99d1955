"""The OpenAPI document names every route there is, and is published."""

import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from runtime.serving.additions import Additions
from runtime.serving.controls import Controls
from runtime.serving.rest.app import _Routes
from runtime.serving.rest.extra_route import ExtraRoute, document_route
from runtime.serving.rest.openapi import openapi_document, operations
from tests.runtime.serving.clients import HttpClient
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.threaded import Threaded


def test_every_route_is_in_the_document_and_no_other(tmp_path: Path) -> None:
    app = _Routes(FakeService(), Controls.under(tmp_path, 1, None), None, 1).app()
    served = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == {(operation.method, operation.path) for operation in operations()}


async def _answer(_: Request) -> Response:
    return Response()


async def _document() -> dict[str, object]:
    return {}


def test_what_a_program_answers_of_its_own_is_in_the_document_too(tmp_path: Path) -> None:
    own_routes = [
        document_route("/own/status", _document),
        ExtraRoute("GET", "/own/jobs", _answer, "Jobs"),
        ExtraRoute("GET DELETE", "/own/jobs/{id}", _answer, "A job; DELETE cancels it"),
        ExtraRoute("POST", "/own/jobs", _answer, "Submits a job"),
        ExtraRoute("GET", "/own/", _answer, None),
    ]
    routes = _Routes(FakeService(), Controls.under(tmp_path, 1, None), None, 1, Additions(routes=own_routes))
    document = TestClient(routes.app()).get("/v2/openapi.json").json()
    own = {path: ways for path, ways in document["paths"].items() if path.startswith("/own/")}
    assert {path: set(ways) for path, ways in own.items()} == {
        "/own/status": {"get"},
        "/own/jobs": {"get", "post"},
        "/own/jobs/{id}": {"get", "delete"},
    }
    assert own["/own/jobs"]["post"]["summary"] == "Submits a job"
    assert [parameter["name"] for parameter in own["/own/jobs/{id}"]["delete"]["parameters"]] == ["id"]
    names = [way["operationId"] for path in document["paths"].values() for way in path.values()]
    assert len(names) == len(set(names))


def test_who_is_lost_is_told_where_the_routes_and_the_page_are(tmp_path: Path) -> None:
    additions = Additions(routes=[ExtraRoute("GET", path, _answer, None) for path in ("/own", "/own/")])
    routes = _Routes(FakeService(), Controls.under(tmp_path, 1, None), None, 1, additions)
    for path in ("/", "/docs", "/openapi.json"):
        reply = TestClient(routes.app()).get(path)
        assert reply.status_code == 404
        assert reply.json()["error"].endswith("/v2/openapi.json lists all; for people there is the page /own/")


def test_operations_have_names_of_their_own() -> None:
    document = openapi_document("x", "1")
    names = [way["operationId"] for path in document["paths"].values() for way in path.values()]
    assert len(names) == len(set(names)) == len(list(operations()))


def test_it_is_published(server: Threaded) -> None:
    client = HttpClient(server.http, binary=False)
    status, headers, data = client.request("GET", "/v2/openapi.json")
    client.close()
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(data) == openapi_document("fake", "0.0")
