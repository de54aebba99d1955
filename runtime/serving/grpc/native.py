"""gRPC with HTTP/2 in Rust, outside the GIL (`pygrpc-native`, the extra `fast`): bursts of raw requests in, answers by id out.

ModelInfer is answered from here. Every other RPC, streams among them, goes through the same port to a grpcio server behind it, on
a Unix socket that only this user can reach. What it cannot do, see `why_not_native`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from protos import inference
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.grpc.calls import REFUSAL_DELAY_S
from runtime.serving.grpc.infer_calls import InferCalls
from runtime.serving.grpc.messages import too_large
from runtime.serving.grpc.native_receiving import Receiver
from runtime.serving.grpc.refusing import start_refusing
from runtime.serving.grpc.server import (
    KEEPALIVE_TIME_MS,
    KEEPALIVE_TIMEOUT_MS,
    GrpcServer,
    closing_error,
)
from runtime.serving.limits import DEFAULT_MAX_MESSAGE_BYTES
from runtime.serving.own_folder import OwnFolder
from runtime.serving.service import InferenceService
from runtime.serving.sockets import Endpoint, explain_refusal, listen
from runtime.tensors import Chunk
from runtime.wire.status import INTERNAL_TEXT, hints_of, status_of, text_of

if TYPE_CHECKING:
    from pygrpc_native import NativeGrpcFront

log = logging.getLogger(__name__)

# Unix sockets in a folder of our own: `FALLBACK` is a link to one of the others.
FALLBACK, BEHIND, REFUSER = "grpc", "behind", "refuser"

# How long answers may take to leave where the drain itself has used its time up, and how often that is looked at.
SEND_LIMIT_S = 0.5
SEND_POLL_S = 0.02


class NativeGrpcServer:
    """The same as `GrpcServer` on the native front: `bind`, then `start`, then `stop`. Lives on one event loop."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        *,
        authorize: Authorize | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        shares_port: bool = False,
        reflects: bool = False,
    ) -> None:
        self._shares_port = shares_port
        self._behind = GrpcServer(
            service, controls, authorize=authorize, max_message_bytes=max_message_bytes, reflects=reflects
        )
        self._calls: InferCalls[int] = InferCalls(service, controls, authorize, self._respond, self._fail)
        self._max_message_bytes = max_message_bytes
        self._is_closing = False
        self._late: dict[int, asyncio.TimerHandle] = {}
        self._front: NativeGrpcFront | None = None
        self._receiver: Receiver | None = None
        self._folder: OwnFolder | None = None

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Takes the address and says it with its real port; `PortInUseError` when somebody listens there."""
        from pygrpc_native import NativeGrpcFront

        if endpoint.port:
            listen(
                endpoint, "gRPC", is_shared=self._shares_port
            ).close()  # says why not; the front writes that to stderr too
        try:
            self._front = NativeGrpcFront(
                str(endpoint),
                [(inference.METHODS["ModelInfer"].path, False)],
                io_threads=1,
                call_details=True,
                metrics=True,
                reuse_port=self._shares_port,
                keepalive_time_ms=KEEPALIVE_TIME_MS,
                keepalive_timeout_ms=KEEPALIVE_TIMEOUT_MS,
            )
        except OSError as error:
            raise explain_refusal(endpoint, "gRPC", error) from error
        return Endpoint(endpoint.host, self._front.bound_port)

    def bind_unix(self, path: str) -> None:
        """Takes a Unix socket too, answered by grpcio; `MachineError` when that cannot be."""
        self._behind.bind_unix(path)

    async def start(self) -> None:
        """Begins to answer."""
        assert self._front is not None, "bind comes before start"
        self._folder = OwnFolder("edgeward-grpc-")
        folder = self._folder.path
        self._behind.bind_unix(str(folder / BEHIND))
        await self._behind.start()
        (folder / FALLBACK).symlink_to(BEHIND)
        self._front.set_fallback(str(folder / FALLBACK))
        self._front.start()
        loop = asyncio.get_running_loop()
        self._receiver = Receiver(self._front, loop, partial(self._on_burst, self._front, loop))
        self._receiver.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, answers those accepted, and cuts off what `grace_s` was too short for."""
        self._is_closing = True
        end = time.monotonic() + grace_s
        refuser = None if self._folder is None else await self._refuse_behind(self._folder.path)
        behind = asyncio.create_task(self._behind.stop(grace_s))
        await self._calls.wait(grace_s)
        self._calls.cut_off()
        await behind
        front, self._front = self._front, None
        if front is not None:
            limit_s = max(end - time.monotonic(), SEND_LIMIT_S)
            if not await _until_sent(front, limit_s, self._late):
                log.warning(
                    "stopped with requests unanswered: their answers were not on the wire after %.1f s", limit_s
                )
            for call_id, timer in list(self._late.items()):
                timer.cancel()
                self._refuse(front, call_id)
            await asyncio.sleep(SEND_POLL_S)
            await asyncio.to_thread(self._close, front)
        if refuser is not None:
            await refuser.stop(None)
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    async def _refuse_behind(self, folder: Path) -> grpc.aio.Server | None:
        """Where the server behind was, the front now finds one that refuses: the front itself takes calls to its last moment."""
        try:
            refuser = await start_refusing(str(folder / REFUSER))
            (link := folder / "next").symlink_to(REFUSER)
            link.replace(folder / FALLBACK)
        except (OSError, RuntimeError) as error:
            log.warning("calls that come while the server closes will be told so in the front's own words: %s", error)
            return None
        return refuser

    async def cut_off(self) -> None:
        """Cuts the calls under way off at once; also while `stop` waits for them."""
        self._is_closing = True
        self._calls.cut_off()
        await self._behind.cut_off()

    def _close(self, front: NativeGrpcFront) -> None:
        front.close()
        if self._receiver is not None:
            self._receiver.join()

    def _on_burst(self, front: NativeGrpcFront, loop: asyncio.AbstractEventLoop, events: list[Any]) -> None:
        """Starts every call of a burst; they meet in one batch, because none of them runs before the last is started."""
        for _, call_id, _, raw, _, details in events:
            try:
                if raw is None:
                    self._leave(call_id)
                elif self._is_closing:
                    # Late, so that who waits for an answer sends nothing more while the connection is being closed.
                    self._late[call_id] = loop.call_later(REFUSAL_DELAY_S, self._refuse, front, call_id)
                else:
                    metadata, _, remaining_s = details
                    self._begin(call_id, raw, metadata, remaining_s)
            except Exception:  # whatever it is, the others of the burst are not to blame
                log.exception("a call could not be taken from the native front")

    def _leave(self, call_id: int) -> None:
        """The client is gone, or its deadline is over."""
        if not self._calls.leave(call_id) and (late := self._late.pop(call_id, None)) is not None:
            late.cancel()

    def _refuse(self, front: NativeGrpcFront, call_id: int) -> None:
        del self._late[call_id]
        _fail(front, call_id, closing_error())

    def _begin(self, call_id: int, raw: bytes, metadata: Any, remaining_s: float | None) -> None:
        try:
            self._calls.admit(metadata)
            self._calls.follow(metadata)
            if len(raw) > self._max_message_bytes:
                raise too_large(len(raw), self._max_message_bytes)
        except Exception as error:
            self._calls.fail(call_id, error)
        else:
            self._calls.begin(call_id, raw, None if remaining_s is None else time.monotonic() + remaining_s)

    def _respond(self, call_id: int, reply: list[Chunk]) -> None:
        if self._front is not None:
            self._front.respond(call_id, b"".join(reply))

    def _fail(self, call_id: int, error: BaseException) -> None:
        if self._front is not None:
            _fail(self._front, call_id, error)


async def _until_sent(front: NativeGrpcFront, timeout_s: float, late: Sized) -> bool:
    """Waits until every call but the `late` ones has ended for its client too: `close` drops answers not on the wire.

    False: some had not when the time was over.
    """
    end = time.monotonic() + timeout_s
    while _open_calls(front) > len(late) and time.monotonic() < end:  # noqa: ASYNC110  (the front has no event to wait for)
        await asyncio.sleep(SEND_POLL_S)
    is_sent = _open_calls(front) <= len(late)
    await asyncio.sleep(SEND_POLL_S)  # the socket takes what the last stream handed over
    return is_sent


def _open_calls(front: NativeGrpcFront) -> int:
    methods = (front.metrics() or {"methods": {}})["methods"].values()
    return sum(each["started"] - sum(ended["count"] for ended in each["status"].values()) for each in methods)


def _fail(front: NativeGrpcFront, call_id: int, error: BaseException) -> None:
    """Ends a call with the status, text and hints of `error`; nothing where it has ended.

    What the front does not take of that is logged, and its caller told less: nobody is to wait for ever.
    """
    code = grpc.StatusCode[status_of(error).grpc].value[0]
    try:
        front.fail(call_id, code, text_of(error), list(hints_of(error).items()))
    except Exception:
        log.exception("the native front does not take %r as the end of a call", error)
        front.fail(call_id, code, INTERNAL_TEXT)
