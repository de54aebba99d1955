"""The blocking REST client: kept-alive HTTP/1.1, tensors as raw bytes behind a JSON header."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from runtime.client.address import DEFAULT_TIMEOUT_S, Protocol, bearer, parse_address
from runtime.client.connections import Connections, Reply
from runtime.client.failures import said_by, time_left
from runtime.client.request import InputNames, Options, build_request, check_size, version_text
from runtime.client.spooled import Spooled, fetch_request, kept, result, submit_parameters
from runtime.client.trust import check_ca, tls_context
from runtime.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    PeerFailedError,
    UnsupportedError,
)
from runtime.wire.rest_body import HEADER_LENGTH, Body
from runtime.wire.rest_codec import decode_response, encode_request
from runtime.wire.rest_descriptions import decode_index, decode_model, decode_server, encode_load_parameters
from runtime.wire.status import error_of_http
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Parameters,
    Privacy,
    RequestedOutput,
    Route,
    ServerDescription,
)


class RestClient:
    """One server over HTTP, blocking; any number of threads may share it, each call on a kept-alive connection.

    `binary=False` sends and asks for JSON instead of raw tensors. A call that finds its kept connection closed by the
    server is sent once more on a new one.
    "https://..." and `ca_file`: see `Client`. Make it after a fork. Raises errors of `runtime.errors`.
    """

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        binary: bool = True,
        ca_file: Path | None = None,
    ) -> None:
        self._address = parse_address(address, Protocol.HTTP)
        check_ca(self._address, ca_file)
        self._timeout_s = timeout_s
        self._binary = binary
        headers = {} if api_key is None else {"Authorization": bearer(api_key)}
        self._connections = Connections(
            self._address, headers, tls_context(ca_file) if self._address.is_secure else None
        )
        self._input_names = InputNames()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | Any,
        *,
        version: str | int = "",
        outputs: Sequence[str | RequestedOutput] = (),
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
        route: Route | str | None = None,
        privacy: Privacy | str | None = None,
        id: str = "",  # noqa: A002  (the protocol's name)
    ) -> InferenceResponse:
        """One inference, as `Client.predict` says: its parameters, its answer and its errors are the same."""
        version = version_text(version)
        options = Options(version, outputs, parameters, route, privacy, id)
        if isinstance(inputs, Mapping):
            return self.infer(build_request(model, inputs, options), timeout_s=timeout_s)
        name = self._input_names.get(model, version)
        if name is None:
            metadata = decode_model(self._get_object(_path_of(model, version), timeout_s))
            name = self._input_names.learn(model, version, metadata.inputs)
        try:
            return self.infer(build_request(model, {name: inputs}, options), timeout_s=timeout_s)
        except InvalidInputError:
            self._input_names.forget(model, version)
            raise

    def infer(self, request: InferenceRequest, *, timeout_s: float | None = None) -> InferenceResponse:
        """The answer to a request made by hand, no later than its deadline and the timeout."""
        check_size(request.inputs)
        body = encode_request(request, binary=self._binary)
        path = f"{_path_of(request.model, request.version)}/infer"
        reply = self._call("POST", path, body, timeout_s, request.deadline)
        return decode_response(reply.body, reply.headers.get(HEADER_LENGTH.lower()))

    def submit(
        self,
        model: str,
        inputs: Mapping[str, Any] | Any,
        *,
        key: str | None = None,
        version: str | int = "",
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
        route: Route | str | None = None,
        privacy: Privacy | str | None = None,
    ) -> Spooled:
        """Has an agent keep the request until it can be answered; when this returns, it is on the agent's disk.

        After an error it is not known to be kept: sent again with the same `key` it is kept once. See `fetch`.
        """
        said = submit_parameters(parameters, key)
        return kept(
            self.predict(
                model, inputs, version=version, parameters=said, timeout_s=timeout_s, route=route, privacy=privacy
            )
        )

    def fetch(self, spooled: Spooled, *, timeout_s: float | None = None) -> InferenceResponse | None:
        """The result of a submitted request; None while there is none. Raises the error that it ended in."""
        return result(self.infer(fetch_request(spooled), timeout_s=timeout_s))

    def is_live(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server's process works; raises where there is no server at all."""
        return self._is_healthy("/v2/health/live", timeout_s)

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server takes requests; raises where there is no server at all."""
        return self._is_healthy("/v2/health/ready", timeout_s)

    def is_model_ready(self, model: str, version: str | int = "", *, timeout_s: float | None = None) -> bool:
        """Whether the model can be asked; False for one that the server does not know."""
        try:
            return self._is_healthy(f"{_path_of(model, version)}/ready", timeout_s)
        except ModelNotFoundError:
            return False

    def server(self, *, timeout_s: float | None = None) -> ServerDescription:
        """What the server says of itself."""
        return decode_server(self._get_object("/v2", timeout_s))

    def model(self, model: str, version: str | int = "", *, timeout_s: float | None = None) -> ModelDescription:
        """The model's signature; a server without model configs leaves the batch limit 0 and the parameters empty."""
        path = _path_of(model, version)
        metadata = self._get_object(path, timeout_s)
        try:
            config = self._get_object(f"{path}/config", timeout_s)
        except (UnsupportedError, ModelNotFoundError):  # the model was there a moment ago: the route is not
            config = None
        return decode_model(metadata, config)

    def index(self, *, only_ready: bool = False, timeout_s: float | None = None) -> list[IndexEntry]:
        """Every model version that the server knows, and its state."""
        reply = self._call("POST", "/v2/repository/index", _json_body({"ready": only_ready}), timeout_s)
        entries = self._parse(reply)
        if not isinstance(entries, list):
            raise PeerFailedError(f"{self._address}: the repository index is no JSON array: {reply.body!r:.200}")
        return decode_index(entries)

    def load(
        self, model: str, parameters: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Loads or reloads a model of the server's repository; give the time that loading takes."""
        body = _json_body(encode_load_parameters(parameters or {}))
        self._call("POST", f"/v2/repository/models/{quote(model, safe='')}/load", body, timeout_s)

    def unload(self, model: str, *, timeout_s: float | None = None) -> None:
        """Unloads every version of the model."""
        self._call("POST", f"/v2/repository/models/{quote(model, safe='')}/unload", _json_body({}), timeout_s)

    def close(self) -> None:
        """Closes the idle connections, and those in use once their answer is there. May be called twice."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RestClient('{self._address if self._address.is_secure else f'http://{self._address}'}')"

    def _is_healthy(self, path: str, timeout_s: float | None) -> bool:
        try:
            self._call("GET", path, None, timeout_s)
        except (ModelNotReadyError, OverloadedError, InvalidInputError):  # not ready: 503, of Triton 400
            return False
        return True

    def _get_object(self, path: str, timeout_s: float | None) -> dict[str, Any]:
        reply = self._call("GET", path, None, timeout_s)
        document = self._parse(reply)
        if not isinstance(document, dict):
            raise PeerFailedError(f"{self._address}: the reply to {path} is no JSON object: {reply.body!r:.200}")
        return document

    def _parse(self, reply: Reply) -> Any:
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise PeerFailedError(f"{self._address}: the reply is no JSON: {reply.body!r:.200}") from error

    def _call(
        self, method: str, path: str, body: Body | None, timeout_s: float | None, deadline: float | None = None
    ) -> Reply:
        left_s = time_left(self._timeout_s if timeout_s is None else timeout_s, deadline, time.monotonic())
        reply = self._connections.exchange(method, path, body, left_s)
        if reply.status >= 400:
            error = error_of_http(reply.status, _error_text(reply), reply.headers)
            raise said_by(self._address, error)
        return reply


def _path_of(model: str, version: str | int) -> str:
    path, version = f"/v2/models/{quote(model, safe='')}", version_text(version)
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _json_body(document: Mapping[str, Any]) -> Body:
    try:
        return Body((json.dumps(document).encode(),))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a load parameter does not go into JSON: {error}") from error


def _error_text(reply: Reply) -> str:
    try:
        return str(json.loads(reply.body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = reply.body[:300].decode("utf-8", "replace").strip()
        return f"HTTP status {reply.status}{f': {text}' if text else ''}"
