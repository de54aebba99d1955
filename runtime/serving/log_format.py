"""How a program writes its log: text for people, or JSON for whoever collects it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from runtime.serving.log_settings import LOGGERS
from runtime.telemetry.json_logs import JsonFormatter


class LogFormat(StrEnum):
    """The shape of a log line."""

    TEXT = "text"
    JSON = "json"


@contextmanager
def logging_as(form: LogFormat, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Writes the log of this process to standard error in `form` until the block ends; `secrets` are never seen in it.

    Text is what Python does by itself; JSON shows ours from INFO on and other libraries' from WARNING on.
    """
    if form is LogFormat.TEXT:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(secrets))
    root = logging.getLogger()
    ours = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.level) for logger in ours]
    root.addHandler(handler)
    for logger in ours:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
        root.removeHandler(handler)
