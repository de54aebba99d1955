"""The stream that keeps open pages current: server-sent events, the same for everybody who looks.

series   the names of all series; a tick's values are in this order
tick     {"at": Unix seconds, "values": [number or null, ...]}
section  {"name": ..., "is_set_up": ..., "data" or "error": ...}
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

from runtime.errors import OverloadedError
from runtime.pages.sections import Document, ask
from runtime.telemetry.history_recorder import HistoryRecorder

# A page is for people; more than so many streams are a script's mistake.
MAX_STREAMS: Final = 32
# A browser that lags so many events behind is cut off, and comes back to the newest state.
MAX_BEHIND: Final = 120
SECTIONS_EVERY_S: Final = 2.0
# Proxies and browsers give up on a connection that says nothing.
KEEP_ALIVE_S: Final = 15.0


class Feed:
    """Tells the numbers of `recorder` and the documents in `sections` to whoever is subscribed. Lives on one event loop."""

    def __init__(self, recorder: HistoryRecorder, sections: Mapping[str, Document | None]) -> None:
        self._recorder = recorder
        self._sections = sections
        self._told: dict[str, str] = {}
        self._series: tuple[str, ...] = ()
        self._streams: set[asyncio.Queue[bytes | None]] = set()
        self._somebody = asyncio.Event()
        self._asking = asyncio.Lock()
        self._is_closed = False

    @property
    def streams(self) -> int:
        """How many pages are open."""
        return len(self._streams)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_ticks())
            group.create_task(self._tell_sections())

    def close(self) -> None:
        """Ends every stream, and lets none begin."""
        self._is_closed = True
        for stream in self._streams:
            _put_last(stream)

    async def look(self) -> dict[str, Any]:
        """Every section, asked now."""
        names = list(self._sections)
        told = await asyncio.gather(*(ask(name, self._sections[name]) for name in names))
        return dict(zip(names, told, strict=True))

    def subscribe(self) -> AsyncIterator[bytes]:
        """The events from now on, beginning with the whole state; `OverloadedError` where too many listen."""
        if len(self._streams) >= MAX_STREAMS:
            raise OverloadedError(
                f"{len(self._streams)} pages are open already, at most {MAX_STREAMS} may; close one", 5.0
            )
        return self._stream()

    async def _stream(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_BEHIND)
        self._streams.add(queue)
        if self._is_closed:
            _put_last(queue)
        try:
            yield b"retry: 2000\n\n" + self._all_series()
            await self._refresh()
            for text in self._told.values():
                yield _event("section", text)
            self._somebody.set()
            while (event := await self._next(queue)) is not None:
                yield event
        finally:
            self._streams.discard(queue)

    async def _next(self, queue: asyncio.Queue[bytes | None]) -> bytes | None:
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                return await queue.get()
        except TimeoutError:
            return b": still here\n\n"

    async def _tell_ticks(self) -> None:
        while True:
            async with self._recorder.stepped:
                await self._recorder.stepped.wait()
            if not self._streams:
                continue
            names = self._recorder.history.names
            if names != self._series:
                self._send(self._all_series())
            at, values = self._recorder.newest
            row = [_short(values.get(name)) for name in names]
            self._send(_event("tick", json.dumps({"at": at, "values": row})))

    async def _tell_sections(self) -> None:
        while True:
            self._somebody.clear()
            if not self._streams:
                await self._somebody.wait()
            await asyncio.sleep(SECTIONS_EVERY_S)
            if self._streams:
                await self._refresh()

    async def _refresh(self) -> None:
        """Asks for the sections, and tells those that have changed."""
        async with self._asking:
            for name, state in (await self.look()).items():
                text = _section(name, state)
                if self._told.get(name) != text:
                    self._told[name] = text
                    self._send(_event("section", text))

    def _all_series(self) -> bytes:
        self._series = self._recorder.history.names
        return _event("series", json.dumps(self._series))

    def _send(self, event: bytes) -> None:
        for stream in list(self._streams):
            try:
                stream.put_nowait(event)
            except asyncio.QueueFull:
                self._streams.discard(stream)
                _put_last(stream)


def _put_last(stream: asyncio.Queue[bytes | None]) -> None:
    """Makes the stream end after nothing more: what waits in it is dropped."""
    with suppress(asyncio.QueueEmpty):
        while True:
            stream.get_nowait()
    stream.put_nowait(None)


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def _section(name: str, state: Mapping[str, Any]) -> str:
    """As JSON that a browser reads, whatever a part told: one that is unreadable must not end the stream of all."""
    try:
        return json.dumps({"name": name, **_finite(state)}, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps({"name": name, "is_set_up": True, "error": f"what it told is no JSON: {error}"})


def _finite(value: Any) -> Any:
    """With null for NaN and the infinities, which JSON does not have and `JSON.parse` refuses."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: float | None) -> float | None:
    """Six digits: what a chart can show, at half the bytes; None also for NaN and the infinities."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
