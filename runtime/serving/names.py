"""Model names and versions as strangers send them: checked before anything looks them up.

A name may end as a dictionary key, a log line or, in a repository, a folder; so one that could be a path, or that breaks a log
line, stops here, on every transport.
"""

from __future__ import annotations

import re
from functools import lru_cache

from runtime.errors import InvalidInputError

# Wider than a bundle's own names, so that a bare file called "my model (2)" is served under its stem; no path and no control
# character fits, nor a name that is dots alone.
# Half of a surrogate pair, which JSON can name, has no UTF-8 and so no way on to a database or a gateway.
_NAME = re.compile(r"(?!\.+\Z)[^\x00-\x1f\x7f/\\\ud800-\udfff]{1,255}")
_VERSION = re.compile(r"[A-Za-z0-9._-]{0,64}")


@lru_cache(maxsize=256)  # what was fine once is; an error is not kept
def check_name(name: str, version: str = "") -> None:
    """`InvalidInputError` unless `name` can name a model and `version` a version (empty: the policy's choice)."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(_say_name(name))
    if version and not _VERSION.fullmatch(version):
        raise InvalidInputError(
            f"model version {_show(version)} is none; expected a number such as '3', or nothing for the server's choice"
        )


def _say_name(name: str) -> str:
    if not name:
        return "the model name is empty; name one of the models that the repository index lists"
    return (
        f"{_show(name)} cannot be a model name; expected up to 255 characters without '/', '\\' and control characters"
    )


def _show(text: str) -> str:
    return repr(text) if len(text) <= 64 else f"{text[:64]!r}… ({len(text)} characters)"
