"""HTTP clients that stop in the middle: of a request's head, of its body, or of picking up the answer.

One timer looks at all connections, so a request pays nothing for it. What is decided is in `stage_of` and `SlowClients.look`,
which read no clock; the connection is `http_connection`'s.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ClientPatience:
    """How long a client may take, in seconds."""

    head_s: float = 30.0
    """From connecting, or from the first byte of the next request, to the end of a request's head."""
    body_s: float = 30.0
    """Between two pieces of a body."""
    answer_s: float = 60.0
    """Between two pieces of an answer that it picks up."""


class Stage(Enum):
    """What a connection waits for; only in the first three does it wait for its client."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    SERVER = "server"


class SlowClients:
    """Remembers since when each connection has not moved. Used on one event loop."""

    def __init__(self, patience: ClientPatience) -> None:
        self._patience = patience
        self._since: dict[Any, tuple[tuple[Stage, int], float]] = {}

    def look(self, connections: Collection[Any], now_s: float) -> list[tuple[Any, Stage]]:
        """Those that have been waited for too long, and where they stopped."""
        before, self._since = self._since, {}
        late: list[tuple[Any, Stage]] = []
        for connection in connections:
            stage = stage_of(connection)
            if stage is Stage.SERVER:
                continue
            at = (stage, _progress(connection, stage))
            seen = before.get(connection)
            since = seen[1] if seen is not None and seen[0] == at else now_s
            self._since[connection] = at, since
            if now_s - since >= self._limit_s(stage):
                late.append((connection, stage))
        return late

    def _limit_s(self, stage: Stage) -> float:
        patience = self._patience
        return {Stage.HEAD: patience.head_s, Stage.BODY: patience.body_s}.get(stage, patience.answer_s)


def stage_of(connection: Any) -> Stage:
    """What `connection` waits for."""
    cycle = connection.cycle
    if connection.transport.get_write_buffer_size():
        return Stage.ANSWER
    if cycle is None or cycle.response_complete:
        # uvicorn's own timer runs while nothing has come of a next request.
        return Stage.HEAD if connection.timeout_keep_alive_task is None else Stage.SERVER
    return Stage.BODY if cycle.more_body else Stage.SERVER


def cut(connection: Any, stage: Stage, patience: ClientPatience) -> None:
    """Ends a connection whose client stopped at `stage`, with a word to those that can hear it."""
    if stage is Stage.ANSWER:
        connection.transport.abort()
    elif stage is Stage.HEAD and not connection.moves:
        connection.transport.close()
    else:
        what, limit_s = ("head", patience.head_s) if stage is Stage.HEAD else ("body", patience.body_s)
        connection.refuse(
            "408 Request Timeout", f"the request's {what} stopped for {limit_s:g} s; send it without pauses"
        )


def _progress(connection: Any, stage: Stage) -> int:
    """Changes when the client moves. A head is given its time as a whole, or a byte now and then would keep it for ever."""
    if stage is Stage.HEAD:
        return 0
    return int(connection.moves if stage is Stage.BODY else connection.transport.get_write_buffer_size())
