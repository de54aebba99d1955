"""What a page tells beside numbers: documents of other parts, asked for while somebody looks.

A part that is not there, or that fails, shows as that, and the rest of the page goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from runtime.errors import EdgewardError

log = logging.getLogger(__name__)

Document = Callable[[], Awaitable[Mapping[str, Any]]]
# A part that takes longer has a trouble of its own; the page says so rather than wait.
TIMEOUT_S: Final = 5.0


async def ask(name: str, document: Document | None) -> dict[str, Any]:
    """The section `name` now: {"is_set_up": False}, {"is_set_up": True, "data": ...} or {"is_set_up": True, "error": ...}."""
    if document is None:
        return {"is_set_up": False}
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return {"is_set_up": True, "data": await document()}
    except TimeoutError:
        return {"is_set_up": True, "error": f"no answer within {TIMEOUT_S:g} s"}
    except EdgewardError as error:
        return {"is_set_up": True, "error": str(error)}
    except Exception:  # one part's mistake is not the page's
        log.exception("section %s of the page failed in an unforeseen way", name)
        return {"is_set_up": True, "error": "it failed in an unforeseen way; the program's log has the details"}
