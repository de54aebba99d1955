"""A command's flags as settings: each parameter of its function is called like the setting that it sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.config import SettingsModel


def flags_of(kind: type[SettingsModel], given: Mapping[str, Any], beside: frozenset[str]) -> dict[str, Any]:
    """What `load_settings` takes, from the parameters of a command (`locals()` on its first line) without those `beside`.

    A list that is empty says nothing, as None does. A parameter that is neither `beside` nor a setting is a mistake in the
    command, and `TypeError`: its flag would change nothing, and nobody would notice.
    """
    flags = {name: value or None if isinstance(value, list) else value for name, value in given.items()}
    flags = {name: value for name, value in flags.items() if name not in beside}
    unknown = sorted(set(flags) - set(kind.model_fields))
    if unknown:
        raise TypeError(
            f"no setting of {kind.__name__} is called {', '.join(unknown)}; rename the parameter after its setting"
        )
    return flags
