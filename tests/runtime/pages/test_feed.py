"""The stream: whole state first, changes after, slow and many readers bounded, an end when the program stops."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime.errors import OverloadedError
from runtime.pages import feed as feed_module
from runtime.pages.feed import MAX_BEHIND, MAX_STREAMS, Feed
from runtime.pages.sections import ask
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.history_recorder import HistoryRecorder

PATIENCE_S = 20


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A feed with its loops running, and a hand on its clock."""

    def __init__(self, **sections: Any) -> None:
        self.clock = Clock()
        self.recorder = HistoryRecorder(clock=self.clock)
        self.feed = Feed(self.recorder, sections)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Served":
        self._running = asyncio.create_task(self.feed.run())
        for _ in range(10):  # until its tasks wait for the first second
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def second(self, *families: Family) -> None:
        self.clock.now += 1
        await self.recorder.step(families)


def gauge(value: float, name: str = "g") -> Family:
    return Family(name, Kind.GAUGE, "G.", [({}, value)])


def refuse(word: str) -> None:
    raise AssertionError(f"no browser reads {word}")


async def until(stream: AsyncIterator[bytes], event: str) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        async for raw in stream:
            for text in raw.decode().split("\n\n"):
                if text.startswith(f"event: {event}\n"):
                    return json.loads(text.partition("data: ")[2], parse_constant=refuse)
    raise AssertionError(f"the stream ended without {event}")


async def test_state_first_then_ticks_in_the_order_of_the_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SECTIONS_EVERY_S", 0.01)
    level = 1

    async def status() -> dict[str, int]:
        return {"level": level}

    async with Served(status=status, drift=None) as served:
        await served.second(gauge(1))
        stream = served.feed.subscribe()
        assert await until(stream, "series") == ["g"]
        told = [await until(stream, "section") for _ in range(2)]
        assert {"name": "status", "is_set_up": True, "data": {"level": 1}} in told
        assert {"name": "drift", "is_set_up": False} in told
        await served.second(gauge(2.1234567), gauge(3, "h"))
        assert await until(stream, "series") == ["g", "h"]
        assert await until(stream, "tick") == {"at": 1_800_000_002, "values": [2.12346, 3.0]}
        level = 2
        while (section := await until(stream, "section"))["data"] == {"level": 1}:
            pass
        assert section["data"] == {"level": 2}
        await stream.aclose()  # type: ignore[attr-defined]
        assert served.feed.streams == 0


async def test_numbers_that_json_has_not_and_parts_that_are_no_json_leave_the_stream_readable() -> None:
    async def odd() -> dict[str, Any]:
        return {"lower": -math.inf, "list": [math.nan, 1.5], "text": "NaN"}

    async def no_json() -> dict[Any, Any]:
        return {(1, 2): "a key of two"}

    async with Served(odd=odd, no_json=no_json) as served:
        await served.second(gauge(math.nan), gauge(math.inf, "h"), gauge(2, "i"))
        stream = served.feed.subscribe()
        assert await until(stream, "series") == ["g", "h", "i"]
        told = {section["name"]: section for section in [await until(stream, "section") for _ in range(2)]}
        assert told["odd"]["data"] == {"lower": None, "list": [None, 1.5], "text": "NaN"}
        assert "is no JSON" in told["no_json"]["error"]
        await served.second(gauge(math.nan), gauge(math.inf, "h"), gauge(3, "i"))
        while (tick := await until(stream, "tick"))["values"][2] != 3.0:
            pass
        assert tick["values"] == [None, None, 3.0]
        await stream.aclose()  # type: ignore[attr-defined]


async def test_who_does_not_read_is_cut_off_and_others_go_on() -> None:
    async with Served() as served:
        lazy, eager = served.feed.subscribe(), served.feed.subscribe()
        await anext(lazy)
        await until(eager, "series")
        for second in range(MAX_BEHIND + 10):
            await served.second(gauge(second))
            await until(eager, "tick")
        assert served.feed.streams == 1
        with pytest.raises(AssertionError, match="ended"):
            await until(lazy, "tick")


async def test_too_many_readers_are_refused() -> None:
    async with Served() as served:
        streams = [served.feed.subscribe() for _ in range(MAX_STREAMS)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(OverloadedError, match=f"at most {MAX_STREAMS}"):
            served.feed.subscribe()
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]


async def test_closing_ends_open_streams_and_lets_none_begin() -> None:
    async with Served() as served:
        stream = served.feed.subscribe()
        await until(stream, "series")
        served.feed.close()
        async with asyncio.timeout(PATIENCE_S):
            assert [event async for event in stream] == []
            assert len([event async for event in served.feed.subscribe()]) <= 1


async def test_a_part_that_fails_or_hangs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.pages import sections

    monkeypatch.setattr(sections, "TIMEOUT_S", 0.01)

    async def hangs() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def crashes() -> dict[str, Any]:
        raise KeyError("secret detail")

    assert (await ask("x", hangs))["error"] == "no answer within 0.01 s"
    told = await ask("x", crashes)
    assert told["is_set_up"]
    assert "secret" not in told["error"]
