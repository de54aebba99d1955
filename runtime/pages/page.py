"""One program's page: its files, its stream, its charts' history, and the report; a program says where they are answered.

    recorder, sections ──▶ Page(...) ──▶ page.answers() ──▶ routes of the program's HTTP port

Answers are given by path below the page's own address, so that the files name each other without knowing where that is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from starlette.responses import JSONResponse, Response, StreamingResponse

from runtime.errors import InvalidInputError
from runtime.pages.feed import Feed
from runtime.pages.sections import Document
from runtime.pages.static_files import HEADERS, StaticFile, read_files
from runtime.telemetry.history import LEVELS, Column, Window
from runtime.telemetry.history_recorder import HistoryRecorder, Read

# As many as a wide screen has pixels for.
MAX_POINTS: Final = 1500
MAX_SPAN_S: Final = LEVELS[-1].span_s
MAX_ASKED: Final = 64
RANK_SPANS_S: Final = (LEVELS[-2].span_s, LEVELS[-1].span_s)
"""A day by the minute, and a month by five."""
RANK_EVERY_S: Final = 60.0
"""However many pages are open: a month of all series is some ten megabytes to look through."""
REPORT_SPAN_S: Final = 24 * 3600
REPORT_POINTS: Final = 320
DECISIONS: Final = "decisions"
"""The section whose data has the list "decisions": what the system did, and when."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer may look at of its request."""

    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered at `path`, below the page's address; `is_open` where it says nothing of this program."""

    path: str
    reply: Callable[[Asked], Awaitable[Response]]
    is_open: bool = False


class Page:
    """`run` beside the server, `answers` on its port, `close` when it stops. Lives on one event loop."""

    def __init__(
        self,
        title: str,
        html: str,
        scripts: Sequence[str],
        recorder: HistoryRecorder,
        sections: Mapping[str, Document | None],
        options: Mapping[str, Any],
    ) -> None:
        """`options` are told to the script as they are, such as where a release is promoted."""
        self._title = title
        self._recorder = recorder
        self._sections = sections
        self._options = options
        self._files = read_files(html, *scripts)
        self._feed = Feed(recorder, sections)
        self._ranking = asyncio.Lock()
        self._ranked: dict[str, Any] = {}
        self._rank_again_at = 0.0

    async def run(self, read: Read) -> None:
        """Records what `read` tells once a second and keeps open pages current, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recorder.run(read))
            group.create_task(self._feed.run())

    def close(self) -> None:
        """Ends every stream."""
        self._feed.close()

    def answers(self) -> list[Answer]:
        """What to answer, and where."""
        return [
            *(
                Answer(f"page/{name}" if name else "", _sender(file), is_open=True)
                for name, file in self._files.items()
            ),
            Answer("page/options", self._tell_options),
            Answer("page/events", self._events),
            Answer("page/history", self._history),
            Answer("page/rank", self._rank),
            Answer("page/report", self._report),
        ]

    async def _tell_options(self, _: Asked) -> Response:
        return _json({"title": self._title, "spans_s": [level.span_s for level in LEVELS], **self._options})

    async def _events(self, _: Asked) -> Response:
        headers = {**HEADERS, "cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._feed.subscribe(), media_type="text/event-stream", headers=headers)

    async def _history(self, asked: Asked) -> Response:
        """Columns of the series whose numbers stand in `series`, of the last `span_s` seconds."""
        span_s = _number(asked.query, "span_s", 600, MAX_SPAN_S)
        names = self._named(asked.query.get("series", ""))
        window = await self._window(span_s, names)
        return _json(
            {
                "step_s": window.step_s,
                "times": window.times.tolist(),
                "columns": [[_cells(mean), _cells(peak)] for mean, peak in (window.columns[name] for name in names)],
            }
        )

    async def _rank(self, _: Asked) -> Response:
        """Series by how often they moved before the system acted by itself, held against how often they move anyway."""
        async with self._ranking:
            if time.monotonic() >= self._rank_again_at:
                self._ranked = await self._rank_now()
                self._rank_again_at = time.monotonic() + RANK_EVERY_S
        return _json(self._ranked)

    async def _rank_now(self) -> dict[str, Any]:
        from runtime.pages.ranking import action_times, rank  # on few pages, and when somebody asks

        if self._sections.get(DECISIONS) is None:
            return {"actions": 0, "ranks": [], "why_not": "this program keeps no log of what it decided"}
        state = (await self._feed.look())[DECISIONS]
        now = int(time.time())
        actions = [at for at in action_times(state.get("data", {}).get(DECISIONS, ())) if at > now - RANK_SPANS_S[-1]]
        if not actions:
            return {"actions": 0, "ranks": [], "why_not": "the system has not acted by itself in the last 30 days"}
        excerpts = [self._recorder.history.read(now - span_s, now) for span_s in RANK_SPANS_S]
        ranks = await asyncio.to_thread(lambda: rank([excerpt.window() for excerpt in excerpts], actions))
        told = [
            {"series": one.series, "preceded": one.preceded, "actions": one.actions, "lift": round(one.lift, 3)}
            for one in ranks
            if one.preceded
        ]
        return {"actions": len(actions), "ranks": told, "why_not": None}

    async def _report(self, _: Asked) -> Response:
        from runtime.pages.report import report_html

        sections = await self._feed.look()
        window = (await self._window(REPORT_SPAN_S, None)).thinned(REPORT_POINTS)
        made_at = time.time()
        text = await asyncio.to_thread(report_html, self._title, made_at, sections, window)
        name = time.strftime("edgeward-report-%Y%m%d-%H%M%S.html", time.gmtime(made_at))
        headers = {**HEADERS, "cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
        return Response(text, media_type="text/html", headers=headers)

    async def _window(self, span_s: int, names: list[str] | None) -> Window:
        now = int(time.time())
        excerpt = self._recorder.history.read(now - span_s, now)
        window = await asyncio.to_thread(excerpt.window, names)
        return window.thinned(MAX_POINTS)

    def _named(self, numbers: str) -> list[str]:
        names = self._recorder.history.names
        words = [word for word in numbers.split(",") if word]
        if len(words) > MAX_ASKED:
            raise InvalidInputError(f"{len(words)} series are asked for at once; at most {MAX_ASKED} may be")
        wrong = next(
            (word for word in words if not word.isascii() or not word.isdigit() or int(word[:9]) >= len(names)), None
        )
        if wrong is not None:
            raise InvalidInputError(f"series {wrong!r:.40} is none; expected numbers from 0 to {len(names) - 1}")
        return [names[int(word)] for word in words]


def _sender(file: StaticFile) -> Callable[[Asked], Awaitable[Response]]:
    async def send(asked: Asked) -> Response:
        return file.answer(asked.headers.get("if-none-match"))

    return send


def _json(document: Mapping[str, Any]) -> Response:
    return JSONResponse(document, headers={**HEADERS, "cache-control": "no-store"})


def _number(query: Mapping[str, str], name: str, otherwise: int, most: int) -> int:
    word = query.get(name, str(otherwise))
    if not word.isascii() or not word.isdigit() or not 1 <= int(word[:12]) <= most:
        raise InvalidInputError(f"{name} is {word!r:.40}; expected a whole number from 1 to {most}")
    return int(word)


def _cells(column: Column) -> list[float | None]:
    """Six digits, and null for a gap: JSON has no NaN."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in column.tolist()]
