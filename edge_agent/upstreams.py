"""All gateways as one upstream: the best one is asked, a failed call goes to the next, who does worse is left out."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from edge_agent.budget import RETRY_SHARE, TokenBucket
from edge_agent.outliers import Outliers, OutlierSettings, Standing
from edge_agent.states import CloudState
from edge_agent.upstream import Gateway
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ModelNotReadyError,
    OverloadedError,
)
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription

log = logging.getLogger(__name__)

# The same gateway is asked again only after a pause, drawn from half of it to all: what broke needs a moment.
RETRY_PAUSE_S: Final = 0.05
# One call and two more tries: what fails three times in a row is not bad luck.
MAX_TRIES: Final = 3
REVIEW_EVERY_S: Final = 0.5


class Gateways:
    """One or more gateways. Lives on one event loop; raises errors of `runtime.errors` only."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        retry_share: float = RETRY_SHARE,
        outliers: OutlierSettings = OutlierSettings(),  # noqa: B008  (frozen)
    ) -> None:
        self.members = tuple(gateways)
        self.retries = 0
        """Calls that were made again."""
        self.retries_held_back = 0
        """Calls that might have been made again, but the budget was spent."""
        self._budget = TokenBucket(retry_share)
        self._outliers = Outliers(len(self.members), outliers, random.random)
        self._reviewed_at = 0.0

    def state(self, now: float, model: str) -> CloudState:
        """Of the gateway that would be asked; costs no network."""
        order = self._order(now, model)
        if order:
            return order[0].state(now, model)
        states = [member.state(now, model) for member in self.members]
        return CloudState(True, False, detail="; ".join(state.detail for state in states if state.detail))

    async def infer(self, request: InferenceRequest, *, is_idempotent: bool = True) -> InferenceResponse:
        """One inference, by the best gateway; by the next one, or again, where that fails and a retry is worth while."""
        self._budget.note_request()
        tried: list[Gateway] = []
        while True:
            now = time.monotonic()
            order = self._order(now, request.model) or list(self.members)
            member = next((one for one in order if one not in tried), order[0])
            if member in tried:
                await asyncio.sleep(RETRY_PAUSE_S * (1 - random.random() / 2))  # noqa: S311  (spreads load)
            tried.append(member)
            try:
                return await member.infer(request)
            except EdgewardError as error:
                if not self._may_try_again(request, error, tried, is_idempotent=is_idempotent):
                    raise
                log.info("gateway %s: %s; asking again", member.address, error)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """A model's signature, from the first gateway that tells it."""
        error: EdgewardError | None = None
        for member in self._order(time.monotonic(), name) or self.members:
            try:
                return await member.describe_model(name, version)
            except EdgewardError as failure:
                error = error or failure
        assert error is not None, "there is at least one gateway"
        raise error

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether one of them would answer for the model."""
        for member in self._order(time.monotonic(), name):
            if await member.is_model_ready(name, version):
                return True
        return False

    async def watch(self) -> None:
        """Watches every gateway until cancelled."""
        watches = [asyncio.create_task(member.watch()) for member in self.members]
        try:
            await asyncio.gather(*watches)
        finally:
            for watch in watches:
                watch.cancel()
            for watch in watches:
                with suppress(asyncio.CancelledError):
                    await watch

    async def describe(self) -> list[dict[str, object]]:
        """For `agent status`: each of them, asked now."""
        told = await asyncio.gather(*(member.describe() for member in self.members))
        now = time.monotonic()
        return [
            {**one, "left_out": self._outliers.reason(index, now) or None, "retries": self.retries}
            for index, one in enumerate(told)
        ]

    async def close(self) -> None:
        """Closes every connection."""
        await asyncio.gather(*(member.close() for member in self.members))

    def _order(self, now: float, model: str) -> list[Gateway]:
        if len(self.members) == 1:
            return [member for member in self.members if member.is_permitted(now)]
        for index in self._outliers.back(now):
            self.members[index].forget()
        standings = [_standing(member, now, model) for member in self.members]
        if now - self._reviewed_at >= REVIEW_EVERY_S:
            self._reviewed_at = now
            for index, why in self._outliers.review(standings, now):
                log.warning("gateway %s is left out for a while: %s", self.members[index].address, why)
        return [self.members[index] for index in self._outliers.order(standings, now)]

    def _may_try_again(
        self, request: InferenceRequest, error: EdgewardError, tried: list[Gateway], *, is_idempotent: bool
    ) -> bool:
        if len(tried) >= MAX_TRIES or not _is_worth_a_retry(error):
            return False
        if not is_idempotent and not isinstance(error, OverloadedError | ModelNotReadyError):
            return False
        now = time.monotonic()
        if request.deadline is not None and request.deadline - now <= RETRY_PAUSE_S:
            return False
        if not self._order(now, request.model):
            return False
        if not self._budget.take():
            self.retries_held_back += 1
            return False
        self.retries += 1
        return True


def _is_worth_a_retry(error: EdgewardError) -> bool:
    """Whether the same call may succeed in a moment, or elsewhere; not when its time was up."""
    return error.retryable and not isinstance(error, DeadlineExceededError)


def _standing(member: Gateway, now: float, model: str) -> Standing:
    state = member.state(now, model)
    answers, failure_share = member.failure_share(now)
    return Standing(state.is_permitted, answers, failure_share, state.typical_s, member.in_flight)
