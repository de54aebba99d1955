"""Decisions written down, one request a line of JSON, and run again: `replay` gets the same decisions or says where not.

A line holds what the course of a request was decided on (its opening and its events) and the moves that followed. There are no
inputs or outputs of models in it; errors are there with their texts. The file is bounded: when it is full it becomes FILE.1,
in the place of an older one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from edge_agent.course import Answered, Course, Deliver, Due, Event, Failed, GiveUp, Move, Opening, Withdraw
from edge_agent.plan import RequestFacts
from edge_agent.rules import Policy, Rule
from edge_agent.states import CloudState, LocalState
from runtime import errors
from runtime.errors import EdgewardError, OverloadedError, WrongUseError
from runtime.wire.values import Privacy, Route, ServedBy

log = logging.getLogger(__name__)

FORMAT: Final = 1
# About 60,000 requests; twice that on disk with the file before it.
MAX_BYTES: Final = 64 << 20

Story = Sequence[tuple[Event | None, Sequence[Move]]]


class DecisionLog:
    """A file that grows to `max_bytes` and is then begun anew. A disk that takes no more ends the log, not the agent."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        try:
            self._file: TextIO | None = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise WrongUseError(f"the decision log {path} cannot be written: {error}; name another file") from error
        self._size = path.stat().st_size

    def write(self, opening: Opening, story: Story) -> None:
        """One request, once it has ended."""
        if self._file is None:
            return
        line = json.dumps(encode(opening, story), separators=(",", ":")) + "\n"
        try:
            if self._size and self._size + len(line) > self._max_bytes:
                self._begin_anew()
            self._file.write(line)
            self._size += len(line)
        except OSError as error:
            log.error("the decision log %s ends here: %s", self._path, error)
            self._file = None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_anew(self) -> None:
        assert self._file is not None, "only a log that is written gets full"
        self._file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("w", encoding="utf-8", buffering=1)
        self._size = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that came out otherwise."""

    line: int
    recorded: object
    replayed: object


def replay(path: Path) -> tuple[int, list[Difference]]:
    """How many requests of the log were decided again, and which of them came out otherwise."""
    count, differences = 0, []
    for number, record in _records(path):
        try:
            opening, events = decode(record)
            recorded = record["moves"]
        except (KeyError, TypeError, ValueError) as error:
            raise WrongUseError(f"line {number} of the decision log {path} cannot be read: {error!r}") from error
        course = Course(opening)
        moves = [course.open(), *(course.on(event) for event in events)]
        replayed = [[_move(move) for move in some] for some in moves]
        if replayed != recorded:
            differences.append(Difference(number, recorded, replayed))
        count += 1
    return count, differences


def encode(opening: Opening, story: Story) -> dict[str, Any]:
    """A request's record as JSON."""
    rule, facts, local, cloud = opening.rule, opening.facts, opening.local, opening.cloud
    return {
        "format": FORMAT,
        "now": opening.now,
        "rule": {
            "policy": rule.policy,
            "privacy": rule.privacy,
            "hedge": rule.hedge,
            "threshold": rule.threshold,
        },
        "facts": {
            "route": facts.route,
            "privacy": facts.privacy,
            "deadline": facts.deadline,
            "is_idempotent": facts.is_idempotent,
        },
        "local": {
            "refusal": None if local.refusal is None else _error(local.refusal),
            "predicted_s": local.predicted_s,
            "typical_s": local.typical_s,
            "is_live": local.is_live,
            "pressure": local.pressure,
            "unasked_s": local.unasked_s,
            "floor_s": local.floor_s,
        },
        "cloud": {
            "is_configured": cloud.is_configured,
            "is_permitted": cloud.is_permitted,
            "predicted_s": cloud.predicted_s,
            "detail": cloud.detail,
            "typical_s": cloud.typical_s,
            "unasked_s": cloud.unasked_s,
            "floor_s": cloud.floor_s,
        },
        "events": [_event(event) for event, _ in story if event is not None],
        "moves": [[_move(move) for move in moves] for _, moves in story],
    }


def decode(record: dict[str, Any]) -> tuple[Opening, list[Event]]:
    """What the moves of a record were decided on."""
    rule, facts, local = record["rule"], record["facts"], dict(record["local"])
    refusal = local.pop("refusal")
    opening = Opening(
        Rule(Policy(rule["policy"]), Privacy(rule["privacy"]), rule["hedge"], rule["threshold"]),
        RequestFacts(Route(facts["route"]), Privacy(facts["privacy"]), facts["deadline"], facts["is_idempotent"]),
        LocalState(refusal=None if refusal is None else _as_error(refusal), **local),
        CloudState(**record["cloud"]),
        record["now"],
    )
    return opening, [_as_event(event) for event in record["events"]]


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                record = json.loads(line)
                if record.get("format") != FORMAT:
                    raise WrongUseError(
                        f"line {number} of {path} has format {record.get('format')!r}; this version reads {FORMAT}"
                    )
                yield number, record
    except (OSError, ValueError, AttributeError) as error:
        raise WrongUseError(f"the decision log {path} cannot be read: {error}") from error


def _event(event: Event) -> dict[str, Any]:
    if isinstance(event, Answered):
        return {"answered": event.arm, "now": event.now, "confidence": event.confidence}
    if isinstance(event, Failed):
        return {"failed": event.arm, "now": event.now, "error": _error(event.error)}
    return {"due": True, "now": event.now, "hedge_tokens": event.hedge_tokens}


def _as_event(told: dict[str, Any]) -> Event:
    if "answered" in told:
        return Answered(ServedBy(told["answered"]), told["now"], told["confidence"])
    if "failed" in told:
        return Failed(ServedBy(told["failed"]), told["now"], _as_error(told["error"]))
    return Due(told["now"], told["hedge_tokens"])


def _move(move: Move) -> dict[str, Any]:
    if isinstance(move, Withdraw):
        return {"withdraw": str(move.arm)}
    if isinstance(move, GiveUp):
        return {"give_up": _error(move.error)}
    step = {
        "arm": str(move.step.arm),
        "why": str(move.step.why),
        "reason": move.step.reason,
        "deadline": move.step.deadline,
    }
    return {"deliver": step} if isinstance(move, Deliver) else {"ask": step, "is_hedge": move.is_hedge}


def _error(error: EdgewardError) -> dict[str, Any]:
    told: dict[str, Any] = {"class": type(error).__name__, "text": str(error)}
    if isinstance(error, OverloadedError):
        told["retry_after_s"] = error.retry_after_s
    return told


def _as_error(told: dict[str, Any]) -> EdgewardError:
    kind = _ERRORS[told["class"]]
    return OverloadedError(told["text"], told["retry_after_s"]) if kind is OverloadedError else kind(told["text"])


_ERRORS: Final = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EdgewardError)
}
