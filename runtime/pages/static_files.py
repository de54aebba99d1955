"""The page's own files, read once: plain JavaScript and CSS as they are served, nothing built, nothing loaded from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.responses import Response

FOLDER: Final = Path(__file__).with_name("static")
OURS: Final = (
    "page.css",
    "theme.js",
    "core.js",
    "charts.js",
    "sections.js",
    "drift.js",
    "errors.js",
    "statistics.js",
    "summary.js",
)
FOR_ALL: Final = (*OURS, "uplot.js", "uplot.css", "uplot.LICENSE")
"""What every program's page has; beside these, a page has its HTML and its own scripts."""
_TYPES: Final = MappingProxyType({".js": "text/javascript", ".css": "text/css", ".html": "text/html"})

# No script, style or image but from here; none of it inline; nobody may put the page into a frame.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = MappingProxyType(
    {
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
    }
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file and what a browser has to know of it."""

    body: bytes
    content_type: str
    etag: str

    def answer(self, if_none_match: str | None) -> Response:
        """The file, or 304 where the browser has it: it asks each time, so an upgraded program is seen at once."""
        headers = {**HEADERS, "etag": self.etag, "cache-control": "no-cache"}
        if if_none_match == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers={**headers, "content-type": self.content_type})


def read_files(html: str, *scripts: str) -> Mapping[str, StaticFile]:
    """The files of one page by the name they are served under; its HTML under ""."""
    return {"": read_file(html), **{name: read_file(name) for name in (*scripts, *FOR_ALL)}}


def read_file(name: str) -> StaticFile:
    """One file of `FOLDER`."""
    body = (FOLDER / name).read_bytes()
    kind = _TYPES.get(Path(name).suffix, "text/plain")
    return StaticFile(body, f"{kind}; charset=utf-8", f'"{hashlib.sha256(body).hexdigest()[:32]}"')
