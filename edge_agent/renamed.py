"""The gateway under other names of models: what is asked for here by one name may be a larger model there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from edge_agent.calls import Upstream
from edge_agent.states import CloudState
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription

CLOUD_MODEL: Final = "cloud_model"
"""Reply parameter: the name of the model that answered there, where it is another."""


class RenamedUpstream:
    """`upstream`, asked for `names[model]` instead of `model`; an `edge_agent.calls.Upstream` itself.

    Replies keep the name that was asked for. A version says nothing about another model, so none is asked for there.
    """

    def __init__(self, upstream: Upstream, names: Mapping[str, str]) -> None:
        self._upstream = upstream
        self._names = names

    def state(self, now: float, model: str) -> CloudState:
        """What routing may know, of the model that would be asked."""
        return self._upstream.state(now, self._names.get(model, model))

    async def infer(self, request: InferenceRequest, *, is_idempotent: bool = True) -> InferenceResponse:
        """One inference there."""
        theirs = self._names.get(request.model)
        if theirs is None:
            return await self._upstream.infer(request, is_idempotent=is_idempotent)
        asked = replace(request, model=theirs, version="")
        answer = await self._upstream.infer(asked, is_idempotent=is_idempotent)
        return replace(answer, model=request.model, parameters={**answer.parameters, CLOUD_MODEL: theirs})

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """A model's signature there."""
        theirs = self._names.get(name)
        if theirs is None:
            return await self._upstream.describe_model(name, version)
        return replace(await self._upstream.describe_model(theirs, ""), name=name)

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether it would answer for the model."""
        theirs = self._names.get(name)
        return await self._upstream.is_model_ready(theirs or name, "" if theirs else version)
