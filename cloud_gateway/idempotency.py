"""One execution a key: a request that was answered before is answered with the same result, whoever lost the first reply.

Result and key are written in one transaction before the result is handed out, so a gateway that is killed has either both or
neither. A key is its caller's own: under another API key it stands for another request. Where two gateways share a database and
both run a request, the first to write wins, and both answer with its result.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cloud_gateway.auth import caller
from cloud_gateway.owned_key import OwnedKey, ResultLimits, conflict
from runtime.errors import DeadlineExceededError
from runtime.serving.asking import Answer, Ask, Withdraw, ask_in_task
from runtime.wire.grpc_codec import decode_response, encode_response
from runtime.wire.idempotency import key_of, payload_digest
from runtime.wire.values import InferenceRequest, InferenceResponse

if TYPE_CHECKING:  # SQLAlchemy, which is loaded with the first key
    from cloud_gateway.results import Results

log = logging.getLogger(__name__)

T = TypeVar("T")
Infer = Callable[[InferenceRequest], Awaitable[InferenceResponse]]
_Outcome = asyncio.Future[InferenceResponse | None]
"""Of a run; None where it was withdrawn or late."""

DEDUPLICATED = "deduplicated"
"""Reply parameter (true): the request ran before, and this is the result that it had then."""


class Idempotent:
    """`infer` of a service, made idempotent for requests that carry a key; those without pass by. Used on one event loop.

    The database (a URL) is opened when the first key comes.
    """

    def __init__(
        self, infer: Infer, database: str, limits: ResultLimits = ResultLimits(), *, ask: Ask | None = None
    ) -> None:
        """`ask`: the short way of `infer`, for requests that pass by."""
        self._infer = infer
        self._ask = ask_in_task(infer) if ask is None else ask
        self._ask_once = ask_in_task(self.infer)
        self._database = database
        self._limits = limits
        self._results: Results | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgeward-results")
        self._running: dict[OwnedKey, tuple[str, _Outcome]] = {}
        self.deduplicated = 0

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The stored result, or the service's, stored first. `ConflictError` where the key was used for another request."""
        text = key_of(request.parameters) if request.parameters else None
        if text is None:
            return await self._infer(request)
        key = OwnedKey(text, caller.get())
        digest = payload_digest(request)
        while (running := self._running.get(key)) is not None:
            if running[0] != digest:
                raise conflict(key)
            found = await _wait_for(running[1], request.deadline)
            if found is not None:
                return self._again(found, request)
            # Whoever ran it went away or had no time left, which says nothing about this request: it runs now.
        outcome: _Outcome = asyncio.get_running_loop().create_future()
        self._running[key] = (digest, outcome)
        try:
            response, is_old = await self._run(key, digest, request)
            outcome.set_result(response)
        except (asyncio.CancelledError, DeadlineExceededError):
            outcome.set_result(None)
            raise
        except BaseException as error:
            outcome.set_exception(error)
            outcome.exception()  # nobody else may be waiting for it
            raise
        finally:
            del self._running[key]
        return self._again(response, request) if is_old else replace(response, id=request.id)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """`infer`; without a task where the request has no key."""
        has_key = bool(request.parameters) and key_of(request.parameters) is not None
        return (self._ask_once if has_key else self._ask)(request, answer)

    async def close(self) -> None:
        """Closes the database; after the last request."""
        if self._results is not None:
            await self._off_loop(self._results.close)
        self._thread.shutdown(wait=True)

    async def _run(self, key: OwnedKey, digest: str, request: InferenceRequest) -> tuple[InferenceResponse, bool]:
        stored = await self._off_loop(lambda: self._opened().find(key, digest))
        if stored is not None:
            return _decoded(stored), True
        response = await self._infer(request)
        raw = encode_response(response).SerializeToString()
        kept = await self._off_loop(lambda: self._opened().keep(key, digest, raw))
        return (response, False) if kept == raw else (_decoded(kept), True)

    def _again(self, response: InferenceResponse, request: InferenceRequest) -> InferenceResponse:
        self.deduplicated += 1
        return replace(response, id=request.id, parameters={**response.parameters, DEDUPLICATED: True})

    def _opened(self) -> Results:
        if self._results is None:
            from cloud_gateway.results import Results

            self._results = Results(self._database, self._limits, time.time)
        return self._results

    async def _off_loop(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


def _decoded(raw: bytes) -> InferenceResponse:
    from protos import inference

    return decode_response(inference.ModelInferResponse.FromString(raw))


async def _wait_for(outcome: _Outcome, deadline: float | None) -> InferenceResponse | None:
    """What became of another request with the same key; its error is raised, and `DeadlineExceededError` at this one's deadline."""
    left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    done, _ = await asyncio.wait([outcome], timeout=left_s)
    if not done:
        raise DeadlineExceededError(
            f"another request with the same key was still running {left_s:.3g} s later, at this one's deadline; allow it more time"
        )
    return outcome.result()
