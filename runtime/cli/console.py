"""How commands print: consoles for results and for people, and the plain table of facts.

What draws them is loaded when something is drawn: a program that another one started says a line of JSON.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from runtime import config

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# In a file or pipe nothing wraps sentences at the 80 columns that rich would take, unless COLUMNS says how many there are.
PIPED_WIDTH = 200
_TRAILING_BLANKS: Final = re.compile(r" +$", re.MULTILINE)

_debug = ContextVar("debug", default=False)


def debugging() -> bool:
    """Whether `edgeward --debug` was called: more is said."""
    return _debug.get()


def set_debugging(is_debug: bool) -> None:
    """For the root of the command line."""
    _debug.set(is_debug)


def standard() -> Console:
    """Results, on standard output; nothing in them is an emoji's name, not even the rate in `poisson:100:`."""
    return _console(sys.stdout)


def people() -> Console:
    """Progress and warnings, on standard error, so that they never mix with results."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    if stream.isatty():
        return Console(file=stream, highlight=False, emoji=False)
    trimmed = cast("TextIO", _Trimmed(stream))
    return Console(file=trimmed, width=config.columns() or PIPED_WIDTH, highlight=False, emoji=False)


class _Trimmed:
    """A stream without the blanks that tables fill their lines with; what is written is whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_TRAILING_BLANKS.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def facts(pairs: Iterable[tuple[str, str]], title: str | None = None) -> Table:
    """Names on the left, values on the right, no lines."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for name, value in pairs:
        # As text, not markup: shapes stand in square brackets.
        table.add_row(Text(name), Text(value))
    return table
