"""Log lines as JSON objects, one a line: with the request they belong to, never with what it carried, and without secrets.

A line has what was written and where, and only fields named here: whatever else is attached to a record stays out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from runtime.telemetry.context import request_mark, traceparent

# Errors quote what they were given, up to a limit of their own; nobody reads more of one line.
MAX_CHARACTERS: Final = 4000
REDACTED: Final = "[redacted]"
# Keys of ours by their prefix (longer than any model name that begins the same way is likely to be), and whatever stands where a
# key stands in a header or a URL.
_KEYS: Final = re.compile(r"edgeward_(?:admin_)?[A-Za-z0-9_-]{32,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_USERINFO: Final = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


class JsonFormatter(logging.Formatter):
    """`secrets`: values that must not be seen wherever they stand, such as the key for the gateway."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(record.getMessage()),
        }
        if (mark := request_mark.get()) is not None:
            line |= {"request_id": self._clean(mark.request_id), "model": self._clean(mark.model)}
        if (parent := traceparent.get()) is not None:
            line["trace_id"] = parent.split("-")[1]
        if record.exc_info:
            line["exception"] = self._clean(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        text = _BEARER.sub(rf"\1 {REDACTED}", _USERINFO.sub(REDACTED, _KEYS.sub(REDACTED, text)))
        return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text)} characters)"
