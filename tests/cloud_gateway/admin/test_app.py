"""The admin application over a real socket: keys, loopback names, caps, errors and headers."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse

from cloud_gateway.admin.app import AdminRequest, AdminRoute, admin_app
from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import AdminKey
from runtime.errors import (
    ConflictError,
    InvalidInputError,
    ModelNotFoundError,
    PayloadTooLargeError,
    PeerUnreachableError,
    UnauthenticatedError,
    UnsupportedError,
    WrongUseError,
)
from tests.cloud_gateway.admin.serving import KEY, serving_admin

SECRET = "a text that only the log may show"


async def echo(request: AdminRequest) -> dict[str, Any]:
    return {"name": request.path.get("name"), "query": dict(request.query), "body": await request.json()}


async def weigh(request: AdminRequest) -> dict[str, Any]:
    sizes = [len(chunk) async for chunk in request.chunks()]
    return {"bytes": sum(sizes), "in_parts": len(sizes) > 1}


async def conflict(_: AdminRequest) -> dict[str, Any]:
    raise ConflictError("that is stored already; choose another")


async def crash(_: AdminRequest) -> dict[str, Any]:
    raise ValueError(SECRET)


async def page(_: AdminRequest) -> HTMLResponse:
    return HTMLResponse("<p>hello", headers={"content-security-policy": "default-src 'self'"})


ROUTES = [
    AdminRoute("GET", "/admin/echo/{name}", echo),
    AdminRoute("POST", "/admin/echo/{name}", echo, max_body_bytes=1000),
    AdminRoute("POST", "/admin/weigh", weigh, max_body_bytes=5 << 20),
    AdminRoute("POST", "/admin/conflict", conflict),
    AdminRoute("POST", "/admin/crash", crash),
    AdminRoute("GET", "/", page, is_open=True),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_admin(ROUTES) as at:
        yield at


@pytest.fixture
def client(address: str) -> Iterator[AdminClient]:
    with AdminClient(address, KEY) as made:
        yield made


def raw(address: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, Any, Any]:
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return reply.status, reply.headers, text


def test_reads_and_changes_with_the_key(client: AdminClient) -> None:
    assert client.get("/admin/echo/a", {"limit": "3"}) == {"name": "a", "query": {"limit": "3"}, "body": {}}
    assert client.post("/admin/echo/b", {"x": 1})["body"] == {"x": 1}


def test_on_this_machine_reading_needs_no_key_and_changing_does(address: str) -> None:
    with AdminClient(address, None) as stranger:
        assert stranger.get("/admin/echo/a")["name"] == "a"
        with pytest.raises(UnauthenticatedError, match="admin key"):
            stranger.post("/admin/echo/a", {})
    with AdminClient(address, KEY + "x") as wrong:
        # A wrong key is an error also where none would have done: whoever sent it believes to be known.
        for ask in (lambda: wrong.get("/admin/echo/a"), lambda: wrong.post("/admin/echo/a")):
            with pytest.raises(UnauthenticatedError, match="not this gateway's admin key") as caught:
                ask()
            assert KEY not in str(caught.value)


@pytest.mark.parametrize("host", ["evil.example:8002", "localhost.evil.example", "127.0.0.1.evil.example:80", ""])
def test_a_web_page_cannot_read_by_a_name_of_its_own(address: str, host: str) -> None:
    status, _, text = raw(address, "GET", "/admin/echo/a", {"Host": host})
    assert status == 401, text
    assert raw(address, "GET", "/admin/echo/a", {"Host": host, "Authorization": f"Bearer {KEY}"})[0] == 200
    assert raw(address, "GET", "/", {"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8002", "127.0.0.1:1", "[::1]:8002", "[::1]", "LOCALHOST:80"])
def test_loopback_names(address: str, host: str) -> None:
    assert raw(address, "GET", "/admin/echo/a", {"Host": host})[0] == 200


async def test_where_others_reach_the_port_reading_needs_the_key_too() -> None:
    app = admin_app(ROUTES, AdminKey(KEY), is_loopback=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as there:
        assert (await there.get("/admin/echo/a")).status_code == 401
        assert (await there.get("/admin/echo/a", headers={"authorization": f"Bearer {KEY}"})).status_code == 200
        assert (await there.get("/")).status_code == 200


def test_errors_are_json_and_have_their_class(client: AdminClient, address: str, caplog: Any) -> None:
    with pytest.raises(ConflictError, match=f"{address}: that is stored already"):
        client.post("/admin/conflict")
    with pytest.raises(ModelNotFoundError, match="no route GET '/nowhere' on the admin port"):
        client.get("/nowhere")
    with pytest.raises(UnsupportedError, match="wrong method; allowed: GET, HEAD"):
        client.post("/")
    with pytest.raises(InvalidInputError, match="not JSON"):
        raise_for(*raw(address, "POST", "/admin/echo/a", {"Authorization": f"Bearer {KEY}"}, b"{"))
    status, _, text = raw(address, "POST", "/admin/crash", {"Authorization": f"Bearer {KEY}"})
    assert status == 500
    assert SECRET not in text.decode()
    assert SECRET in caplog.text


def test_a_text_that_no_database_keeps_is_the_callers_fault_wherever_it_stands(
    client: AdminClient, address: str
) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    for method, path, body in (
        ("GET", "/admin/echo/a%00", b""),
        ("GET", "/admin/echo/a?limit=%00", b""),
        ("POST", "/admin/echo/a", b'{"x": ["\\ud800"]}'),
    ):
        with pytest.raises(InvalidInputError, match="which no database keeps"):
            raise_for(*raw(address, method, path, key, body))
    assert client.post("/admin/echo/a", {"x": "\U0001f600ü"})["body"] == {"x": "\U0001f600ü"}


def raise_for(status: int, headers: Any, text: bytes) -> None:
    from runtime.wire.status import error_of_http

    raise error_of_http(status, json.loads(text)["error"], {k.lower(): v for k, v in headers.items()})


def test_bodies_are_capped_while_they_arrive(client: AdminClient, tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLargeError):
        client.post("/admin/echo/a", {"x": "y" * 1000})
    fits, too_large = tmp_path / "fits", tmp_path / "large"
    fits.write_bytes(b"x" * (5 << 20))
    too_large.write_bytes(b"x" * ((5 << 20) + 1))
    assert client.upload("/admin/weigh", fits) == {"bytes": 5 << 20, "in_parts": True}
    with pytest.raises((PayloadTooLargeError, PeerUnreachableError)):
        client.upload("/admin/weigh", too_large)
    (tmp_path / "empty").touch()
    for nothing in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(WrongUseError, match="cannot be read"):
            client.upload("/admin/weigh", nothing)


@pytest.mark.parametrize(("method", "path"), [("GET", "/admin/echo/a"), ("GET", "/nowhere"), ("POST", "/admin/echo/a")])
def test_every_answer_has_the_strict_headers(address: str, method: str, path: str) -> None:
    _, headers, _ = raw(address, method, path, {})
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_a_page_brings_its_own_policy(address: str) -> None:
    _, headers, text = raw(address, "GET", "/", {})
    assert headers.get_all("content-security-policy") == ["default-src 'self'"]
    assert headers["x-frame-options"] == "DENY"
    assert text == b"<p>hello"
