"""The OpenAPI document names every route there is, and is published."""

import json
from pathlib import Path

from starlette.routing import Route

from runtime.serving.controls import Controls
from runtime.serving.openapi import openapi_document, operations
from runtime.serving.rest_app import _Routes
from tests.runtime.serving.clients import HttpClient
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.threaded import Threaded


def test_every_route_is_in_the_document_and_no_other(tmp_path: Path) -> None:
    app = _Routes(FakeService(), Controls.under(tmp_path, 1, None), None, 1).app({})
    served = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == {(operation.method, operation.path) for operation in operations()}


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
