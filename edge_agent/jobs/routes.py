"""Jobs over REST.

POST   /edgeward/jobs         {"model", "input", "output", "route"}: 202 and the job
GET    /edgeward/jobs         all of them
GET    /edgeward/jobs/ID      one
DELETE /edgeward/jobs/ID      cancels it
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_agent.jobs.folders import inside
from runtime.errors import InvalidInputError, UnsupportedError
from runtime.serving.names import check_name
from runtime.serving.rest.body import read_body
from runtime.serving.rest.extra_route import ExtraRoute

if TYPE_CHECKING:
    from edge_agent.jobs.jobs import Jobs

PATH = "/edgeward/jobs"
MAX_BODY_BYTES = 1 << 16


class Submitted(BaseModel):
    """A job as it comes."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    model: str
    input: str = Field(min_length=1, max_length=4096)
    output: str = Field(min_length=1, max_length=4096)
    route: Literal["auto", "edge", "cloud"] = "auto"


def job_routes(jobs: Jobs, folders: Sequence[Path]) -> list[ExtraRoute]:
    """The routes over the jobs of one agent; files must lie in `folders`."""

    async def submit(request: Request) -> Response:
        from runtime.row_files.opening import check_input, check_output  # what an agent without jobs need not load

        # A web page may send a form or a text to this machine without asking, but no JSON.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise UnsupportedError("a job is submitted as application/json; set the content type")
        body = await read_body(dict(request.scope["headers"]), request.receive, MAX_BODY_BYTES)
        try:
            asked = Submitted.model_validate_json(body)
        except ValidationError as error:
            problem = error.errors()[0]
            raise InvalidInputError(
                f"the job's {'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
            ) from None
        check_name(asked.model)
        source, output = inside(asked.input, folders, "input"), inside(asked.output, folders, "output")
        check_input(source)
        check_output(output)
        job = await asyncio.to_thread(lambda: jobs.submit(asked.model, source, output, asked.route))
        return JSONResponse(job.to_dict(), 202, {"location": f"{PATH}/{job.id}"})

    async def listing(_: Request) -> Response:
        found = await asyncio.to_thread(jobs.list)
        return JSONResponse({"jobs": [job.to_dict() for job in found]})

    async def one(request: Request) -> Response:
        number = _number(request)
        if request.method == "DELETE":
            await asyncio.to_thread(lambda: jobs.cancel(number))
        job = await asyncio.to_thread(lambda: jobs.find(number))
        if job is None:
            return JSONResponse(
                {"error": f"there is no job {number}; `edgeward agent jobs`, or GET {PATH}, lists them"}, 404
            )
        return JSONResponse(job.to_dict())

    return [
        ExtraRoute("GET", PATH, listing, "Batch jobs and their states"),
        ExtraRoute("POST", PATH, submit, "Submits a batch job"),
        ExtraRoute("GET DELETE", f"{PATH}/{{id}}", one, "A batch job; DELETE cancels it"),
    ]


def _number(request: Request) -> int:
    word = request.path_params["id"]
    if not word.isascii() or not word.isdecimal() or len(word) > 15:
        raise InvalidInputError(f"{word!r:.40} is no job's number; GET {PATH} lists them")
    return int(word)
