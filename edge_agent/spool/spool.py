"""The spool at work: takes requests in, has them answered in the order they came, one model's never waiting for another's.

Made and used on one event loop; the database has a thread of its own, on which requests that arrive together are written together.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from edge_agent.spool.retrying import Outcome, after_error, pause_s
from runtime import errors
from runtime.errors import (
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotReadyError,
    StorageError,
    UnsupportedError,
)
from runtime.serving.asking import Answer, Ask, Withdraw, ask_in_task
from runtime.wire.grpc_codec import decode_request, decode_response, encode_request, encode_response
from runtime.wire.idempotency import IDEMPOTENCY_KEY, key_of, payload_digest
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameter

if TYPE_CHECKING:
    from edge_agent.spool.policy import SpoolLimits
    from edge_agent.spool.store import Entry, SpoolStore, Submission

log = logging.getLogger(__name__)

T = TypeVar("T")
Infer = Callable[[InferenceRequest], Awaitable[InferenceResponse]]

ASYNC: Final = "async"
"""Request parameter (bool): keep the request and answer at once; the result is fetched later by its key."""
RESULT_OF: Final = "spooled_result"
"""Request parameter (string): answer with the result of the request that was spooled under this key."""
SPOOLED: Final = "spooled"
"""Reply parameter (bool): the request is kept, and this reply has no outputs."""

# Nobody waits for a spooled request, but a gateway that does not answer is asked again some day.
ANSWER_TIMEOUT_S: Final = 60.0
_UNFORESEEN: Final = "the agent failed in a way it did not expect; its log says more"
# Ages are looked at so often while nothing happens.
IDLE_S: Final = 30.0


class Spool:
    """One spool before one service. `open` before use; `close` once requests are no longer sent."""

    def __init__(self, file: Path, limits: SpoolLimits, infer: Infer, ask: Ask | None = None) -> None:
        self._file = file
        self._limits = limits
        self._infer = infer
        self._pass_on = ask_in_task(infer) if ask is None else ask
        self._ask_here = ask_in_task(self.infer)
        self._store: SpoolStore | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgeward-spool")
        self._coming: list[tuple[Submission, asyncio.Future[Entry]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._replayer: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._opening_lock = asyncio.Lock()
        self._paused_until: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._is_closed = False

    def start(self) -> None:
        """Begins to answer what an earlier run left; a spool that was never used is not opened, which spares its memory."""
        if self._file.exists():
            self._opening = asyncio.create_task(self._open_or_say())

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Keeps a request that asks for that, hands out a result that is asked for, and passes on everything else."""
        parameters = request.parameters
        if not parameters:
            return await self._infer(request)
        if RESULT_OF in parameters:
            return await self.result(_checked_key(RESULT_OF, parameters[RESULT_OF]), request)
        is_async = parameters.get(ASYNC, False)
        if not isinstance(is_async, bool):
            raise InvalidInputError(f"parameter {ASYNC!r} is {is_async!r:.80}; expected true or false")
        if not is_async:
            return await self._infer(request)
        return _reply(await self.submit(request), request)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """`infer`; without a task where the spool has no part in the request."""
        is_here = bool(request.parameters) and not request.parameters.keys().isdisjoint((ASYNC, RESULT_OF))
        return (self._ask_here if is_here else self._pass_on)(request, answer)

    async def submit(self, request: InferenceRequest) -> Entry:
        """Keeps a request under its key, or a new one; what is under that key now. It is on disk when this returns.

        `ConflictError`, `OverloadedError` and `StorageError` say why it is not kept.
        """
        from edge_agent.spool.store import Submission

        if any(output.slot is not None for output in request.outputs):
            raise UnsupportedError("a spooled request has no shared memory to put outputs in; ask for them by value")
        key = key_of(request.parameters) or uuid.uuid4().hex
        kept = {name: value for name, value in request.parameters.items() if name != ASYNC}
        message = encode_request(replace(request, parameters={**kept, IDEMPOTENCY_KEY: key}))
        submission = Submission(key, payload_digest(request), request.model, message.SerializeToString())
        await self._opened()
        if self._is_closed:
            raise ModelNotReadyError("this agent is shutting down and takes no new requests; retry when it is back")
        kept_as: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._coming.append((submission, kept_as))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await kept_as

    async def result(self, key: str, request: InferenceRequest) -> InferenceResponse:
        """The result under a key, or a reply that it is still kept; the error that it ended in is raised."""
        entry = await self.find(key)
        if entry is None:
            raise InvalidInputError(
                f"nothing is spooled under key {key!r:.140}; it was never accepted, or its result is no longer kept"
            )
        return _reply(entry, request)

    async def find(self, key: str) -> Entry | None:
        """What there is under a key."""
        if not key.isascii():
            return None  # no key is, and what has no UTF-8 cannot even be asked for
        store = await self._opened()
        return await self._off_loop(lambda: store.find(key))

    async def describe(self) -> dict[str, Any]:
        """For `agent status`; a spool that was never used is empty."""
        if self._store is None and not self._file.exists():
            return {"depth": 0, "bytes": 0, "max_bytes": self._limits.max_bytes, "oldest_age_s": None}
        try:
            store = await self._opened()
            return await self._off_loop(store.describe)
        except EdgewardError as error:
            return {"error": str(error)}

    async def close(self) -> None:
        """Ends replaying (what is under way stays kept, and is asked again by its key) and closes the database."""
        self._is_closed = True
        for task in (self._opening, self._replayer):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if self._writer is not None:
            await self._writer
        if self._store is not None:
            await self._off_loop(self._store.close)
        self._thread.shutdown(wait=True)

    async def _open_or_say(self) -> None:
        try:
            await self._opened()
        except EdgewardError as error:
            log.error("the spool %s cannot be opened, so what it keeps waits: %s", self._file, error)

    async def _opened(self) -> SpoolStore:
        async with self._opening_lock:
            if self._store is None:
                self._store = await self._off_loop(self._open)
                self._replayer = asyncio.create_task(self._replay(self._store))
            return self._store

    def _open(self) -> SpoolStore:
        from edge_agent.spool.store import SpoolStore

        return SpoolStore(self._file, self._limits)

    async def _write(self) -> None:
        """Everything that has come meanwhile goes into one transaction: one write to the disk for all of it."""
        store = await self._opened()
        while self._coming:
            coming, self._coming = self._coming, []
            submissions = [submission for submission, _ in coming]
            try:
                outcomes: list[Any] = list(await self._off_loop(partial(store.add, submissions)))
            except EdgewardError as error:
                outcomes = [error] * len(coming)
            for (_, kept_as), outcome in zip(coming, outcomes, strict=True):
                if kept_as.done():
                    continue  # its sender went away; if it was kept, it is answered all the same
                if isinstance(outcome, EdgewardError):
                    kept_as.set_exception(outcome)
                else:
                    kept_as.set_result(outcome)
            self._wake.set()

    async def _replay(self, store: SpoolStore) -> None:
        """Until cancelled: has the oldest request of every model answered, then the next."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._wake.clear()
                try:
                    heads = await self._off_loop(store.heads)
                except StorageError as error:
                    log.error("the spool cannot be read; trying again in %g s: %s", IDLE_S, error)
                    heads = []
                now = time.monotonic()
                waits = [IDLE_S]
                for entry in heads:
                    until = self._paused_until.get(entry.model, 0.0)
                    if entry.model in running:
                        continue
                    if until > now:
                        waits.append(until - now)
                        continue
                    task = running[entry.model] = asyncio.create_task(self._answer(store, entry))
                    task.add_done_callback(partial(self._ended, running, entry.model))
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes with the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(waits)):
                        await self._wake.wait()
        finally:
            for task in list(running.values()):
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    def _ended(self, running: dict[str, asyncio.Task[None]], model: str, task: asyncio.Task[None]) -> None:
        del running[model]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a spooled request failed in an unforeseen way", exc_info=error)
            self._pause(model)
        self._wake.set()

    async def _answer(self, store: SpoolStore, entry: Entry) -> None:
        from protos import inference

        assert entry.payload is not None, "waiting requests have their payload"
        message = inference.ModelInferRequest.FromString(entry.payload)
        try:
            request = replace(decode_request(message), deadline=time.monotonic() + ANSWER_TIMEOUT_S)
            response = await self._infer(request)
            result = encode_response(response).SerializeToString()
            await self._off_loop(lambda: store.finish(entry.number, result))
        except EdgewardError as error:
            await self._after(store, entry, error)
            return
        except (
            Exception
        ):  # the outermost place of this request: those behind it must not wait for it until it is too old
            log.exception("spooled request %s for model %s failed in an unforeseen way", entry.key, entry.model)
            await self._after(store, entry, ExecutionError(_UNFORESEEN))
            return
        self._failures.pop(entry.model, None)
        self._paused_until.pop(entry.model, None)

    async def _after(self, store: SpoolStore, entry: Entry, error: EdgewardError) -> None:
        try:
            if after_error(error, entry.attempts) is Outcome.GIVE_UP:
                log.warning("spooled request %s for model %s ends in an error: %s", entry.key, entry.model, error)
                await self._off_loop(lambda: store.fail(entry.number, error))
                return
            await self._off_loop(lambda: store.note_attempt(entry.number, error))
        except StorageError as again:
            log.error("the spool cannot be written: %s", again)
        self._pause(entry.model)

    def _pause(self, model: str) -> None:
        failures = self._failures[model] = self._failures.get(model, 0) + 1
        self._paused_until[model] = time.monotonic() + pause_s(failures)

    async def _off_loop(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


def _reply(entry: Entry, request: InferenceRequest) -> InferenceResponse:
    """An answer that any client of the protocol takes: the result, or no outputs and parameters that say where they will be."""
    said: dict[str, Parameter] = {IDEMPOTENCY_KEY: entry.key}
    if entry.result is not None:
        response = stored_response(entry.result)
        return replace(response, id=request.id, parameters={**response.parameters, **said, SPOOLED: False})
    if entry.error_class is not None:
        raise stored_error(entry)
    said[SPOOLED] = True
    return InferenceResponse(request.model or entry.model, request.version, {}, request.id, said)


def stored_response(raw: bytes) -> InferenceResponse:
    """A result as it was kept."""
    from protos import inference

    return decode_response(inference.ModelInferResponse.FromString(raw))


def stored_error(entry: Entry) -> EdgewardError:
    """The error that a spooled request ended in, of its own class."""
    kind = getattr(errors, entry.error_class or "", None)
    is_ours = isinstance(kind, type) and issubclass(kind, EdgewardError)
    return (kind if is_ours else errors.ExecutionError)(f"spooled request {entry.key}: {entry.error}")  # type: ignore[misc]


def _checked_key(name: str, value: Parameter) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"parameter {name!r} is {value!r:.80}; expected the key of a spooled request")
    return value
