"""LogSettings: which of this process's log lines are shown, changed while it runs.

Triton's switches are one for each severity; Python's are one level for each logger. So the level of our loggers is set to the
lowest severity that is on, and a filter on the handlers drops what is off above it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from runtime.errors import InvalidInputError, UnsupportedError

Setting = bool | int | str
LOGGERS = ("runtime", "edge_agent", "cloud_gateway")

_SWITCHES: Mapping[str, int] = MappingProxyType(
    {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
)
_VERBOSE = "log_verbose_level"
# What Triton lets nobody change over the network, and what there is one of here.
_FIXED: Mapping[str, Setting] = MappingProxyType({"log_file": "", "log_format": "default"})
_MAX_VERBOSE = 2**32 - 1


class LogSettings:
    """The settings of this process, since loggers belong to the process. Nothing is touched before the first `update`."""

    def __init__(self, loggers: tuple[str, ...] = LOGGERS) -> None:
        self._loggers = [logging.getLogger(name) for name in loggers]
        level = self._loggers[0].getEffectiveLevel()
        self._values: dict[str, Setting] = {
            **_FIXED,
            **{name: level <= severity for name, severity in _SWITCHES.items()},
            _VERBOSE: 1 if level <= logging.DEBUG else 0,
        }
        self._undo: list[Callable[[], None]] = []
        self._filter = _SeverityFilter(tuple(loggers))

    def values(self) -> dict[str, Setting]:
        """Every setting by Triton's name."""
        return dict(self._values)

    def update(self, changes: Mapping[str, object]) -> None:
        """Changes the settings named; `InvalidInputError` or `UnsupportedError` names what cannot be, and nothing changes."""
        checked = {name: _checked(name, value) for name, value in changes.items()}
        if not checked:
            return
        self._values.update(checked)
        self._apply()

    def close(self) -> None:
        """Puts the loggers back as they were."""
        while self._undo:
            self._undo.pop()()

    def _apply(self) -> None:
        self.close()
        shown = {severity for name, severity in _SWITCHES.items() if self._values[name]}
        if self._values[_VERBOSE]:
            shown.add(logging.DEBUG)
        if self._values["log_error"]:
            shown.add(logging.CRITICAL)
        self._filter.shown = frozenset(shown)
        for logger in self._loggers:
            self._set_level(logger, min(shown, default=logging.CRITICAL + 1))
            for handler in _handlers_of(logger) or [self._own_handler(logger)]:
                if self._filter not in handler.filters:
                    handler.addFilter(self._filter)
                    self._undo.append(lambda handler=handler: handler.removeFilter(self._filter))  # type: ignore[misc]

    def _set_level(self, logger: logging.Logger, level: int) -> None:
        before = logger.level
        logger.setLevel(level)
        self._undo.append(lambda: logger.setLevel(before))

    def _own_handler(self, logger: logging.Logger) -> logging.Handler:
        """Where a program has set up no logging, Python shows warnings and nothing below: there a handler of ours does."""
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        self._undo.append(lambda: logger.removeHandler(handler))
        return handler


class _SeverityFilter(logging.Filter):
    """Lets records of other people's loggers through, and ours where their severity is on."""

    def __init__(self, loggers: tuple[str, ...]) -> None:
        super().__init__()
        self._loggers = loggers
        self.shown: frozenset[int] = frozenset()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in self._loggers:
            return True
        return record.levelno // 10 * 10 in self.shown


def _handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    found: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        found += at.handlers
        at = at.parent if at.propagate else None
    return found


def _checked(name: str, value: object) -> Setting:
    if name in _SWITCHES:
        if not isinstance(value, bool):
            raise InvalidInputError(f"log setting {name!r} is {value!r:.80}; expected true or false")
        return value
    if name == _VERBOSE:
        if type(value) is not int or not 0 <= value <= _MAX_VERBOSE:
            raise InvalidInputError(f"log setting {name!r} is {value!r:.80}; expected 0 (off) or more")
        return value
    if name in _FIXED:
        if value != _FIXED[name]:
            raise UnsupportedError(
                f"log setting {name!r} cannot be changed over the network; this server logs to its standard error"
            )
        return _FIXED[name]
    known = ", ".join([*_SWITCHES, _VERBOSE, *_FIXED])
    raise InvalidInputError(f"unknown log setting {name!r:.80}; known: {known}")
