"""One suite over the blocking gRPC, the asyncio gRPC and the REST client, each against a real server on a socket."""

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from runtime import errors
from runtime.client import connect
from runtime.client.aio import AsyncClient
from runtime.client.request import MAX_MESSAGE_BYTES
from runtime.client.rest import RestClient
from runtime.client.sync import Client
from runtime.wire.values import InferenceRequest, ModelState, Route
from tests import ports

X = np.array([[1.5, -2.0]], dtype=np.float32)


class Blocking:
    """An `AsyncClient` with each call run to its end on a loop in a thread, so that one suite drives all clients."""

    def __init__(self, address: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = self._run(self._make(address, options))

    async def _make(self, address: str, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(address, **options)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **named: self._run(method(*arguments, **named))

    def end(self) -> None:
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Make = Callable[..., Any]


@pytest.fixture(params=["sync", "aio", "rest", "rest-json"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    """Makes clients of one kind for an address and closes them."""
    made: list[Any] = []

    def build(address: str, **options: Any) -> Any:
        options.setdefault("timeout_s", 20.0)
        match kind:
            case "sync":
                client: Any = connect(address, **options)
            case "aio":
                client = Blocking(address, **options)
            case _:
                client = RestClient(address, binary=kind == "rest", **options)
        made.append(client)
        return client

    yield build
    for client in made:
        client.end() if isinstance(client, Blocking) else client.close()


@pytest.fixture
def address(kind: str, request: pytest.FixtureRequest) -> str:
    _, found = request.getfixturevalue("http_server" if kind.startswith("rest") else "grpc_server")
    return str(found)


@pytest.fixture
def free_port() -> int:
    return ports.free_port()


def test_predict_sends_everything_and_brings_the_answer(make: Make, address: str, answers: Any) -> None:
    client = make(address, api_key="k-1")
    response = client.predict(
        "double",
        {"x": X},
        version="1",
        outputs=["y"],
        parameters={"priority": 2},
        route=Route.EDGE,
        privacy="local_only",
        id="r-1",
    )
    np.testing.assert_array_equal(response.outputs["y"], X * 2, strict=True)
    assert (response.model, response.version, response.id) == ("double", "1", "r-1")
    assert response.parameters == {"served_by": "edge"}
    (sent,) = answers.requests
    assert (sent.model, sent.version, sent.id) == ("double", "1", "r-1")
    assert [output.name for output in sent.outputs] == ["y"]
    assert sent.parameters == {"priority": 2, "route": "edge", "privacy": "local_only"}
    assert answers.keys == ["Bearer k-1"]


@pytest.mark.parametrize("version", [1, np.int64(1)])
def test_a_version_may_be_the_number_that_manifests_have(make: Make, address: str, answers: Any, version: int) -> None:
    client = make(address)
    for inputs in ({"x": X}, X):
        assert client.predict("double", inputs, version=version).version == "1"
    assert {request.version for request in answers.requests} == {"1"}
    assert client.is_model_ready("double", version)
    assert client.model("double", version).name == "double"


def test_a_bare_array_asks_for_the_inputs_name_once(make: Make, address: str, answers: Any) -> None:
    client = make(address)
    for _ in range(3):
        np.testing.assert_array_equal(client.predict("double", X).outputs["y"], X * 2)
    assert answers.describes == 1
    answers.input_name = "renamed"  # as a new version may: the first refusal makes the client ask again
    with pytest.raises(errors.InvalidInputError):
        client.predict("double", X)
    np.testing.assert_array_equal(client.predict("double", X).outputs["y"], X * 2)
    assert answers.describes == 2


def test_infer_takes_a_request_made_by_hand(make: Make, address: str) -> None:
    request = InferenceRequest("double", {"x": X}, deadline=time.monotonic() + 20)
    np.testing.assert_array_equal(make(address).infer(request).outputs["y"], X * 2)


def test_descriptions(make: Make, address: str, answers: Any) -> None:
    client = make(address)
    assert client.is_live() is True
    assert client.is_ready() is False
    assert client.is_model_ready("double") is True
    assert client.is_model_ready("nobody") is False
    assert client.server() == answers.server()
    assert client.model("double") == answers.describe("double")
    assert client.index() == answers.index()
    assert [entry.state for entry in client.index(only_ready=True)] == [ModelState.READY]
    client.load("double", {"file:1/model.onnx": b"\xff", "config": "{}"})
    assert answers.loads == [("double", {"file:1/model.onnx": b"\xff", "config": "{}"})]


@pytest.mark.parametrize(
    ("model", "cls", "says"),
    [
        ("nobody", errors.ModelNotFoundError, "model 'nobody' is not here; there is 'double'"),
        ("full", errors.OverloadedError, "the queue is full"),
        ("broken", errors.PeerFailedError, "the model failed"),
        ("bug", errors.PeerFailedError, "the server failed in a way it did not expect"),
    ],
)
def test_the_servers_errors_come_back_with_its_address(
    make: Make, address: str, model: str, cls: type[errors.EdgewardError], says: str
) -> None:
    with pytest.raises(cls) as caught:
        make(address).predict(model, {"x": X})
    assert says in str(caught.value)
    assert address.removeprefix("http://") in str(caught.value)
    assert "secret" not in str(caught.value)
    if isinstance(caught.value, errors.OverloadedError):
        assert caught.value.retry_after_s == 3.0


def test_a_method_that_the_server_lacks(make: Make, address: str) -> None:
    with pytest.raises((errors.UnsupportedError, errors.ModelNotFoundError)):
        make(address).unload("double")


def test_nobody_listens(make: Make, free_port: int) -> None:
    with pytest.raises(errors.PeerUnreachableError, match=rf"127.0.0.1:{free_port} is unreachable.*check the address"):
        make(f"127.0.0.1:{free_port}").is_live()


def test_a_slow_server_meets_the_timeout_and_the_client_goes_on(make: Make, address: str, answers: Any) -> None:
    client = make(address)
    with pytest.raises(errors.DeadlineExceededError, match="within 0.05 s; give a longer timeout_s"):
        client.predict("slow", {"x": X}, timeout_s=0.05)
    assert client.is_live() is True
    request = InferenceRequest("slow", {"x": X}, deadline=time.monotonic() + 0.05)
    with pytest.raises(errors.DeadlineExceededError):
        client.infer(request, timeout_s=20)


def test_a_deadline_that_has_passed_is_not_sent(make: Make, address: str, answers: Any) -> None:
    with pytest.raises(errors.DeadlineExceededError, match="before the request could be sent"):
        make(address).infer(InferenceRequest("double", {"x": X}, deadline=time.monotonic() - 1))
    assert answers.requests == []


def test_an_answer_after_the_timeout_is_none(make: Make, address: str) -> None:
    client = make(address)
    assert client.is_live() is True  # connected: the answer takes less than the millisecond that gRPC counts in
    for _ in range(5):
        with pytest.raises(errors.DeadlineExceededError, match="within 1e-09 s"):
            client.predict("double", {"x": X}, timeout_s=1e-9)
    assert client.predict("double", {"x": X}).outputs["y"][0, 0] == 2 * X[0, 0]


def test_a_server_that_accepts_and_says_nothing(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(errors.DeadlineExceededError):
        make(f"127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.2).is_live()


@pytest.mark.parametrize("reply", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", b""])
def test_a_peer_that_breaks_off_or_speaks_something_else(make: Make, reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises((errors.PeerError, errors.DeadlineExceededError)):
                make(f"127.0.0.1:{server.getsockname()[1]}", timeout_s=2).server()
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_what_is_over_the_cap_is_not_sent(make: Make, address: str, answers: Any) -> None:
    huge = np.broadcast_to(np.float32(0), (MAX_MESSAGE_BYTES // 4 + 1,))
    with pytest.raises(errors.PayloadTooLargeError, match=f"at most {MAX_MESSAGE_BYTES}; send fewer rows"):
        make(address).predict("double", {"x": huge})
    assert answers.requests == []


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"route": "moon"}, "route is 'moon'; expected 'auto' or 'edge' or 'cloud'"),
        ({"privacy": "x"}, "privacy is 'x'; expected 'any' or 'local_only'"),
        ({"outputs": "y"}, "outputs is 'y'; expected a sequence of names, such as outputs=['y']"),
        ({"version": 1.5}, "version is 1.5; expected an integer such as 1 or a text such as '1'"),
        ({"version": True}, "version is True; expected an integer"),
    ],
)
def test_a_wrong_choice_is_refused_here(make: Make, free_port: int, named: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InvalidInputError) as caught:
        make(f"127.0.0.1:{free_port}").predict("double", {"x": X}, **named)
    assert says in str(caught.value)


@pytest.mark.parametrize("value", [np.array([1j]), [[1], [1, 2]], np.array([object()]), None])
def test_what_is_no_tensor_is_refused_here(make: Make, free_port: int, value: object) -> None:
    with pytest.raises(errors.InvalidInputError):
        make(f"127.0.0.1:{free_port}").predict("double", {"x": value})


def test_big_endian_arrays_mean_what_they_say(make: Make, address: str) -> None:
    response = make(address).predict("double", {"x": X.astype(">f4")})
    np.testing.assert_array_equal(response.outputs["y"], X * 2)


def test_after_close_it_says_so(make: Make, address: str) -> None:
    client = make(address)
    assert client.is_live()
    client.close()
    client.close()
    with pytest.raises(errors.WrongUseError, match="is closed; connect again"):
        client.is_live()


def test_a_port_of_grpc_is_told_to_who_speaks_rest(grpc_server: Any) -> None:
    _, address = grpc_server
    with RestClient(address) as client, pytest.raises(errors.PeerUnreachableError) as caught:
        client.is_live()
    assert f"{address} speaks HTTP/2, so it is a gRPC port; give the REST port" in str(caught.value)


def test_many_threads_share_one_client(make: Make, address: str) -> None:
    client = make(address)
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(10):
            value = np.full((1, 2), number, np.float32)
            got = client.predict("double", value).outputs["y"]
            if not np.array_equal(got, value * 2):
                wrong.append((number, got))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_all_clients_have_the_same_methods() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        found = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient) == methods(RestClient)


def test_a_key_is_not_shown() -> None:
    with connect("127.0.0.1:1", api_key="secret") as client:
        assert "secret" not in repr(client)
    with RestClient("127.0.0.1:1", api_key="secret") as rest:
        assert "secret" not in repr(rest)
