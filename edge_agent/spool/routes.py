"""The spool over REST, for programs that want it plain: 202 for what is kept, the protocol's own JSON for what is answered.

POST /edgeward/spool          an inference request of the protocol with `model_name` in it; header Idempotency-Key
GET  /edgeward/spool          depth, bytes, ages, counts
GET  /edgeward/spool/KEY      200 the result, 202 still waiting, 404 unknown, or the error that it ended in
"""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_agent.spool.spool import ASYNC, Spool, stored_error, stored_response
from runtime.errors import InvalidInputError
from runtime.serving.names import check_name
from runtime.serving.rest.body import read_body
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.wire.idempotency import IDEMPOTENCY_KEY
from runtime.wire.rest_body import HEADER_LENGTH, split
from runtime.wire.rest_codec import WantedBinary, decode_request, encode_response

PATH = "/edgeward/spool"


def spool_routes(spool: Spool, max_body_bytes: int) -> list[ExtraRoute]:
    """The routes over one spool."""

    async def submit(request: Request) -> Response:
        body = await read_body(dict(request.scope["headers"]), request.receive, max_body_bytes)
        length = request.headers.get(HEADER_LENGTH)
        document, _ = split(body, length)
        model, version = document.get("model_name"), document.get("model_version", "")
        if not isinstance(model, str) or not isinstance(version, str):
            raise InvalidInputError(
                "the body has no `model_name`; expected an inference request with the model's name in it"
            )
        check_name(model, version)
        asked, _ = decode_request(model, version, body, length)
        parameters = dict(asked.parameters)
        key = request.headers.get("idempotency-key")
        if key is not None and parameters.setdefault(IDEMPOTENCY_KEY, key) != key:
            raise InvalidInputError("the header Idempotency-Key and the parameter idempotency_key differ; send one")
        parameters.pop(ASYNC, None)
        entry = await spool.submit(replace(asked, parameters=parameters))
        return JSONResponse({"key": entry.key, "state": entry.state}, 202, {"location": f"{PATH}/{entry.key}"})

    async def show(_: Request) -> Response:
        return JSONResponse(await spool.describe())

    async def fetch(request: Request) -> Response:
        key = request.path_params["key"]
        entry = await spool.find(key)
        if entry is None:
            text = f"nothing is spooled under key {key!r:.140}; it was never accepted, or its result is no longer kept"
            return JSONResponse({"error": text}, 404)
        if entry.result is not None:
            reply = encode_response(stored_response(entry.result), WantedBinary())
            return Response(reply.joined(), media_type=reply.content_type)
        if entry.error_class is not None:
            raise stored_error(entry)
        said = {"key": key, "state": entry.state, "attempts": entry.attempts, "waits_because": entry.error}
        return JSONResponse(said, 202)

    return [
        ExtraRoute("POST", PATH, submit, "Keeps a request on disk until it can be answered"),
        ExtraRoute("GET", PATH, show, "What waits in the spool"),
        ExtraRoute("GET", f"{PATH}/{{key}}", fetch, "The result of a kept request"),
    ]
