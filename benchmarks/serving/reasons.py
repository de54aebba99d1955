"""Why a server is missing, in one line that may be published: without folders and hosts of the machine it ran on. Pure."""

from __future__ import annotations

import re

LONGEST = 300
# As an interpreter ends: "AttributeError: ...", "mlserver.errors.MLServerError: ...".
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b.*$")
_PATH = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:\\(?:[^\s:'\"\\]+\\)+|/(?:[^\s:'\",)(]+/)+)")
_HOST = re.compile(r"\bhttps?://(?!127\.0\.0\.1|localhost)[^\s'\",)]+")


def reason_in(log: str) -> str:
    """The last line that says which error it was; without one, the last that has anything in it."""
    lines = [line.strip() for line in log.splitlines() if line.strip(" \t;^")]
    raised = [line for line in lines if _RAISED.match(line)]
    said = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return publishable((raised or said or lines or ["it said nothing"])[-1])


def publishable(text: str) -> str:
    """One line of at most `LONGEST` characters: files without their folders, servers elsewhere without their names."""
    return _PATH.sub("", _HOST.sub("(a URL)", " ".join(text.split())))[:LONGEST]
