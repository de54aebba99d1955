"""The Open Inference Protocol over REST: an ASGI application that translates onto an `InferenceService`.

Inference goes straight to its route; everything else through Starlette's routing. Every reply that is an error is JSON
`{"error": "..."}`, unknown routes and methods too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.serving.additions import Additions
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.load_parameters import check_unload
from runtime.serving.metrics.endpoint import render_metrics
from runtime.serving.names import check_name
from runtime.serving.rest import controls as rest_controls
from runtime.serving.rest.body import read_body
from runtime.serving.rest.calls import authorize_headers, send_error
from runtime.serving.rest.infer import InferRoute, target_of
from runtime.serving.rest.whole_requests import KnownHead
from runtime.serving.service import InferenceService
from runtime.telemetry.exposition import CONTENT_TYPE
from runtime.wire.model_config import config_json
from runtime.wire.repeats import Repeats
from runtime.wire.rest_descriptions import (
    decode_index_request,
    decode_load_parameters,
    index_json,
    live_json,
    model_json,
    model_ready_json,
    ready_json,
    server_json,
)
from runtime.wire.statistics import statistics_json

Answer = Callable[[Request], Awaitable[Response]]


def rest_app(
    service: InferenceService,
    controls: Controls,
    *,
    authorize: Authorize | None = None,
    max_body_bytes: int,
    additions: Additions | None = None,
) -> ASGIApp:
    """The application; `authorize` sees the bearer value of every request but those for health and for what is open.

    `additions`: routes and metrics of the program that serves.
    """
    return _RestApp(
        InferRoute(service, controls, authorize, max_body_bytes),
        _Routes(service, controls, authorize, max_body_bytes, additions).app(),
    )


class _RestApp:
    """An ASGI application that can be asked whole requests at once, too (`whole_requests.AnswersWhole`)."""

    def __init__(self, infer: InferRoute, routes: Starlette) -> None:
        self.heads: Repeats[bytes, KnownHead] = Repeats()
        self.at_once = infer.at_once
        self._infer = infer
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            target = target_of(scope["path"])
            if target is not None:
                await self._infer(target, scope, receive, send)
                return
        await self._routes(scope, receive, send)


class _Routes:
    """Every route but inference."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        authorize: Authorize | None,
        max_body_bytes: int,
        additions: Additions | None = None,
    ) -> None:
        self._service = service
        self._controls = controls
        self._authorize = authorize
        self._max_body_bytes = max_body_bytes
        self._additions = Additions() if additions is None else additions

    def app(self) -> Starlette:
        """The routes as an application of their own."""
        model = "/v2/models/{model}"
        version = f"{model}/versions/{{version}}"
        repository = "/v2/repository/models/{model}"
        system, cuda = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
        region = "region/{name}"
        routes = [
            self._route("GET", "/v2/health/live", self.live, is_open=True),
            self._route("GET", "/v2/health/ready", self.ready, is_open=True),
            self._route("GET", "/v2", self.server),
            self._route("GET", "/v2/", self.server),
            self._route("GET", "/v2/openapi.json", self.openapi),
            self._route("GET", "/metrics", self.metrics),
            *(self._route("GET", f"{at}/stats", self.statistics) for at in ("/v2/models", model, version)),
            *(self._route("GET", f"{at}/status", self.system_status) for at in (system, f"{system}/{region}")),
            self._route("POST", f"{system}/{region}/register", self.system_register),
            *(self._route("POST", f"{at}/unregister", self.system_unregister) for at in (system, f"{system}/{region}")),
            *(self._route("GET", f"{at}/status", self.cuda_status) for at in (cuda, f"{cuda}/{region}")),
            self._route("POST", f"{cuda}/{region}/register", self.cuda_register),
            *(self._route("POST", f"{at}/unregister", self.cuda_unregister) for at in (cuda, f"{cuda}/{region}")),
            *(self._route("GET POST", f"{at}/trace/setting", self.trace) for at in ("/v2", model)),
            self._route("GET POST", "/v2/logging", self.log),
            *(self._route("GET", f"{at}/ready", self.model_ready) for at in (model, version)),
            *(self._route("GET", f"{at}/config", self.model_config) for at in (model, version)),
            *(self._route("GET", at, self.model) for at in (model, version)),
            self._route("POST", "/v2/repository/index", self.index),
            self._route("POST", f"{repository}/load", self.load),
            self._route("POST", f"{repository}/unload", self.unload),
            # POST never gets here (see `rest_app`): known, so that another method is answered 405.
            *(Route(f"{at}/infer", _unreachable, methods=["POST"]) for at in (model, version)),
            *(self._route(one.methods, one.path, one.answer, is_open=one.is_open) for one in self._additions.routes),
        ]
        page = next((one.path for one in self._additions.routes if one.path.endswith("/")), None)
        return Starlette(routes=routes, exception_handlers={HTTPException: partial(_http_error, page)})

    async def live(self, _: Request) -> Response:
        """The process answers."""
        is_live = self._service.is_live()
        return _state(live_json(is_live), is_live, "this server is not live")

    async def ready(self, _: Request) -> Response:
        """New requests are welcome."""
        is_ready = self._service.is_ready()
        return _state(ready_json(is_ready), is_ready, "this server is not ready: it is starting or shutting down")

    async def server(self, _: Request) -> Response:
        """ServerMetadata."""
        return JSONResponse(server_json(await self._controls.describe(self._service.describe_server())))

    async def model_ready(self, request: Request) -> Response:
        """ModelReady."""
        name, version = _model(request)
        is_ready = await self._service.is_model_ready(name, version)
        return _state(model_ready_json(name, is_ready), is_ready, f"model {name!r} is not ready here")

    async def model(self, request: Request) -> Response:
        """ModelMetadata."""
        return JSONResponse(model_json(await self._service.describe_model(*_model(request))))

    async def model_config(self, request: Request) -> Response:
        """ModelConfig."""
        return JSONResponse(config_json(await self._service.describe_model(*_model(request))))

    async def statistics(self, request: Request) -> Response:
        """ModelStatistics."""
        name, version = _model(request) if "model" in request.path_params else ("", "")
        return JSONResponse(statistics_json(self._service.statistics(name, version)))

    async def metrics(self, _: Request) -> Response:
        """The same for Prometheus."""
        text = await render_metrics(self._service, self._additions)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        """What this server answers, as an OpenAPI document."""
        from runtime.serving.rest.openapi import openapi_document, own_operations

        described = self._service.describe_server()
        own = own_operations(self._additions.routes)
        return JSONResponse(openapi_document(described.name, described.version, own))

    async def system_status(self, request: Request) -> Response:
        """SystemSharedMemoryStatus."""
        return JSONResponse(rest_controls.system_status_json(self._controls, _region(request)))

    async def system_register(self, request: Request) -> Response:
        """SystemSharedMemoryRegister."""
        rest_controls.register_system(self._controls, _region(request), await self._body(request))
        return JSONResponse({})

    async def system_unregister(self, request: Request) -> Response:
        """SystemSharedMemoryUnregister."""
        self._controls.memory.unregister_system(_region(request))
        return JSONResponse({})

    async def cuda_status(self, request: Request) -> Response:
        """CudaSharedMemoryStatus."""
        return JSONResponse(rest_controls.cuda_status_json(self._controls, _region(request)))

    async def cuda_register(self, request: Request) -> Response:
        """CudaSharedMemoryRegister."""
        await rest_controls.register_cuda(self._controls, _region(request), await self._body(request))
        return JSONResponse({})

    async def cuda_unregister(self, request: Request) -> Response:
        """CudaSharedMemoryUnregister."""
        await self._controls.memory.unregister_cuda(_region(request))
        return JSONResponse({})

    async def trace(self, request: Request) -> Response:
        """TraceSetting."""
        name = _model(request)[0] if "model" in request.path_params else ""
        if request.method == "POST":
            rest_controls.change_trace(self._controls, name, await self._body(request))
        return JSONResponse(self._controls.traces.values(name))

    async def log(self, request: Request) -> Response:
        """LogSettings."""
        if request.method == "POST":
            rest_controls.change_log(self._controls, await self._body(request))
        return JSONResponse(self._controls.logs.values())

    async def index(self, request: Request) -> Response:
        """RepositoryIndex."""
        only_ready = decode_index_request(await self._body(request))
        return JSONResponse(index_json(self._service.index(), only_ready=only_ready))

    async def load(self, request: Request) -> Response:
        """RepositoryModelLoad."""
        name, _ = _model(request)
        await self._service.load(name, decode_load_parameters(await self._body(request)))
        return JSONResponse({"name": name, "load": True})

    async def unload(self, request: Request) -> Response:
        """RepositoryModelUnload."""
        name, _ = _model(request)
        check_unload(decode_load_parameters(await self._body(request)))
        await self._service.unload(name)
        return JSONResponse({"name": name, "unload": True})

    async def _body(self, request: Request) -> bytes:
        return await read_body(dict(request.scope["headers"]), request.receive, self._max_body_bytes)

    def _route(self, methods: str, path: str, answer: Answer, *, is_open: bool = False) -> Route:
        authorize = None if is_open else self._authorize

        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if authorize is not None:
                    authorize_headers(authorize, dict(scope["headers"]))
                response = await answer(Request(scope, receive))
            except Exception as error:
                await send_error(send, error)
            else:
                await response(scope, receive, send)

        return Route(path, _Endpoint(endpoint), methods=methods.split())


class _Endpoint:
    """An ASGI callable that Starlette takes for an application: it wraps plain functions in its own request objects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _model(request: Request) -> tuple[str, str]:
    name, version = request.path_params["model"], request.path_params.get("version", "")
    check_name(name, version)
    return name, version


def _region(request: Request) -> str:
    return str(request.path_params.get("name", ""))


def _state(document: dict[str, Any], is_good: bool, otherwise: str) -> Response:
    if is_good:
        return JSONResponse(document)
    return JSONResponse({**document, "error": otherwise}, status_code=503)


async def _unreachable(request: Request) -> Response:
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)


async def _http_error(page: str | None, request: Request, error: Exception) -> Response:
    """The error as JSON; of a route that there is not, with where the routes are told and, for people, the `page`."""
    assert isinstance(error, HTTPException)
    route = f"{request.method} {request.url.path!r:.200}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        text = (
            f"no route {route}; the Open Inference Protocol's routes begin with /v2, such as /v2/models/NAME/infer, and "
            f"/v2/openapi.json lists all{f'; for people there is the page {page}' if page else ''}"
        )
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "POST").split(", ")))
        text = f"{route}: wrong method; allowed: {allowed}"
    else:
        text = f"{route}: {error.detail}"
    return JSONResponse({"error": text}, status_code=error.status_code, headers=error.headers)
