"""ModelInfer for fronts that hand a call over as bytes and take its answer later: begun, answered, withdrawn, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from runtime.errors import CancelledError, ModelNotReadyError
from runtime.serving.asking import Withdraw
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.deadlines import with_timeout
from runtime.serving.grpc.calls import authorize_metadata, note_foreign
from runtime.serving.grpc.replies import GrpcReplies
from runtime.serving.names import check_name
from runtime.serving.service import InferenceService
from runtime.tensors import Chunk
from runtime.wire.grpc_repeats import RequestDecoder
from runtime.wire.values import InferenceRequest, InferenceResponse

K = TypeVar("K", bound=Hashable)
"""What a front knows its calls by."""


class InferCalls(Generic[K]):
    """The calls of one front that are under way. Lives on one event loop.

    `respond` is given the chunks of an answer, `fail` what went wrong; both for calls that have not ended. Calls that are begun in
    one turn of the event loop meet in one batch, because none of them runs before the last is begun.
    """

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        authorize: Authorize | None,
        respond: Callable[[K, list[Chunk]], object],
        fail: Callable[[K, BaseException], object],
    ) -> None:
        self._ask = controls.asking(service)
        self._decode, self._encode = RequestDecoder(controls.memory), GrpcReplies()
        self._controls = controls
        self._load = controls.load
        self._authorize = authorize
        self._respond = respond
        self._fail = fail
        self._under_way: dict[K, Withdraw] = {}
        self._none_left: asyncio.Event | None = None
        """Made by who waits until no call is left."""

    @property
    def reads_metadata(self) -> bool:
        """Whether `admit` looks at what it is given."""
        return self._authorize is not None or self._controls.tracer is not None

    @property
    def is_traced(self) -> bool:
        """Whether `follow` does anything."""
        return self._controls.tracer is not None

    def admit(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Looks at who calls; raises `UnauthenticatedError` where the key is not good."""
        if self._authorize is not None:
            authorize_metadata(self._authorize, metadata)

    def follow(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Makes the caller's span, if it sent one, the parent of what is begun next in this context."""
        self._controls.follow_metadata(metadata)

    def begin(self, call: K, raw: bytes, deadline: float | None) -> None:
        """Asks for the answer to the bytes of a ModelInferRequest; raises nothing."""
        try:
            request = self._decode(raw, deadline)
            check_name(request.model, request.version)
            if request.parameters:
                request = with_timeout(request)
            self._under_way[call] = self._ask(request, partial(self._answer, call, request))
            self._load.in_flight += 1
        except Exception as error:
            self.fail(call, error)

    def leave(self, call: K) -> bool:
        """The client is gone, or its deadline is over. False where the call is not under way."""
        withdraw = self._under_way.get(call)
        if withdraw is None:
            return False
        withdraw()
        self._end(call, CancelledError("the client went away before the answer"))
        return True

    async def wait(self, timeout_s: float) -> None:
        """Until no call is under way, or the time is over."""
        if self._under_way:
            self._none_left = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), timeout_s)

    def cut_off(self) -> None:
        """Ends every call that is under way with an error."""
        stopped = "the server stopped before it could answer; retry, here or at another one"
        for call, withdraw in list(self._under_way.items()):
            withdraw()
            self._end(call, ModelNotReadyError(stopped))

    def fail(self, call: K, error: BaseException) -> None:
        """Tells the caller of a call that is not under way what went wrong, and counts it."""
        note_foreign(error)
        if not isinstance(error, CancelledError):
            self._load.note_error(error)
        self._fail(call, error)

    def _answer(
        self, call: K, request: InferenceRequest, response: InferenceResponse | None, error: BaseException | None
    ) -> None:
        if call not in self._under_way:
            return
        if response is None:
            assert error is not None, "an answer is one or the other"
            self._end(call, error)
            return
        try:
            self._respond(call, self._encode(request, response))
        except Exception as wrong:
            self._end(call, wrong)
            return
        self._load.answered += 1
        self._end(call)

    def _end(self, call: K, error: BaseException | None = None) -> None:
        """Takes a call off the books, and tells its caller why it has no answer where it has none."""
        del self._under_way[call]
        self._load.in_flight -= 1
        if error is not None:
            self.fail(call, error)
        if self._none_left is not None and not self._under_way:
            self._none_left.set()
