"""What agents tell of versions on their devices, and what whoever runs the gateway may say of a rollout.

POST /edgeward/bundles/outcomes         {"device", "outcomes": [{"model", "version", "outcome", "reason"}]} → {"counted": n}
POST /admin/releases/MODEL/waves        {"action": "halt" | "finish", "reason"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.rollout.store import MOST_REASON_CHARACTERS, Outcome, RolloutStore
from runtime.errors import InvalidInputError
from runtime.serving.names import check_name
from runtime.serving.rest.body import read_body
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.store import check_text, kept_text

PATH: Final = "/edgeward/bundles/outcomes"
MAX_BODY_BYTES: Final = 1 << 18
MOST_OUTCOMES: Final = 100
MOST_DEVICE_CHARACTERS: Final = 128


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = Field(min_length=1, max_length=128)
    version: int = Field(ge=0, lt=1 << 63)
    outcome: Outcome
    reason: str = Field(default="", max_length=8 * MOST_REASON_CHARACTERS)


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    device: str = Field(min_length=1, max_length=MOST_DEVICE_CHARACTERS)
    outcomes: tuple[_Told, ...] = Field(max_length=MOST_OUTCOMES)


def outcome_route(rollouts: RolloutStore) -> ExtraRoute:
    """For the models' port, behind its API keys. The same told twice counts once."""

    async def answer(request: Request) -> Response:
        body = await read_body(dict(request.scope["headers"]), request.receive, MAX_BODY_BYTES)
        try:
            told = _Body.model_validate_json(body)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"])) or "body"
            raise InvalidInputError(f"no outcomes of versions: {where}: {problem['msg']}") from error
        for text in (told.device, *(one.model for one in told.outcomes)):
            check_text(text, "the name of a device or model")

        def take() -> int:
            return sum(
                rollouts.report(told.device, one.model, one.version, one.outcome, kept_text(one.reason))
                for one in told.outcomes
            )

        return JSONResponse({"counted": await asyncio.to_thread(take)})

    return ExtraRoute("POST", PATH, answer, "Takes what became of a version on a device")


def wave_route(rollouts: RolloutStore) -> AdminRoute:
    """For the admin port."""

    async def answer(request: AdminRequest) -> Mapping[str, Any]:
        model, document = request.path["model"], await request.json()
        check_name(model)
        acts = {"halt": rollouts.halt, "finish": rollouts.finish}
        action, why = document.get("action"), document.get("reason", "")
        if not isinstance(action, str) or action not in acts:
            raise InvalidInputError(f"'action' is {action!r:.80}; expected one of {', '.join(acts)}")
        if not isinstance(why, str) or len(why) > MOST_REASON_CHARACTERS:
            raise InvalidInputError(
                f"'reason' is {why!r:.80}; expected a text of up to {MOST_REASON_CHARACTERS} characters"
            )
        await asyncio.to_thread(acts[action], model, why)
        return {"model": model, "action": action}

    return AdminRoute("POST", "/admin/releases/{model}/waves", answer)
