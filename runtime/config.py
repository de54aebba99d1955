"""Settings: a TOML file, then the environment, then flags; each value remembers where it came from.

The only place that reads environment variables. A program declares a frozen pydantic model of its settings and calls
`load_settings`; `EDGEWARD_HOME` is the one folder for state and caches.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import WrongUseError

ENVIRONMENT_PREFIX = "EDGEWARD_"
HOME_VARIABLE = "EDGEWARD_HOME"

DEFAULT = "default"
"""The origin of a setting that nobody chose."""
FLAG = "flag"
"""The origin of one that the command line gave."""
VARIABLE = "variable "
"""How the origin of one begins that a variable gave; its name follows."""


class SettingsModel(BaseModel):
    """Base of every program's settings: immutable, and an unknown key is an error."""

    # Of a ladder of settings only the program's own is ever read; the others need no validator.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


S = TypeVar("S", bound=SettingsModel)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """Settings and, for each of their fields, where the value came from ("default", "flag", a file, a variable)."""

    settings: S
    origins: Mapping[str, str]

    def describe(self) -> list[tuple[str, str, str]]:
        """(name, value, origin) of every field, in declared order; secrets show as stars."""
        return [
            (name, _as_written(getattr(self.settings, name)), self.origins[name])
            for name in type(self.settings).model_fields
        ]


def _as_written(value: object) -> str:
    """A setting as people write it: several with commas between, not as Python has them."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def home(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of state and caches: `EDGEWARD_HOME`, else the platform's user data folder. Not created here."""
    chosen = (os.environ if environ is None else environ).get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("edgeward", appauthor=False))


def user_config_home(environ: Mapping[str, str] | None = None) -> Path:
    """The user's folder of configuration on systems that follow the XDG base directories: XDG_CONFIG_HOME, else ~/.config."""
    chosen = (os.environ if environ is None else environ).get("XDG_CONFIG_HOME")
    return Path(chosen) if chosen else Path.home() / ".config"


def columns(environ: Mapping[str, str] | None = None) -> int | None:
    """How wide whoever runs a command wants its lines (`COLUMNS`, as shells say it); None where nobody said."""
    said = (os.environ if environ is None else environ).get("COLUMNS", "")
    return int(said) if said.isdecimal() and int(said) > 0 else None


def set_unless_set(name: str, value: str) -> None:
    """Sets a variable that a library reads when it is imported, unless whoever started the program has set it."""
    os.environ.setdefault(name, value)


def load_settings(
    kind: type[S],
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    known: type[SettingsModel] | None = None,
) -> Loaded[S]:
    """The settings of `kind` from defaults, then `file`, then `EDGEWARD_*` variables, then flags that are not None.

    `known`: whose file it is, where that has more than `kind` reads. Who only asks a program does not judge how it was started.
    `WrongUseError` names the key, where it stands, the value seen and, for an unknown key, the nearest known one.
    """
    fields = kind.model_fields
    values: dict[str, Any] = {}
    origins = dict.fromkeys(fields, DEFAULT)
    for name, value in (_read_toml(file) if file is not None else {}).items():
        check_known(name, (known or kind).model_fields, f"file {file}")
        if name in fields:
            values[name], origins[name] = value, f"file {file}"
    variables = os.environ if environ is None else environ
    for name in fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if variable in variables:
            values[name], origins[name] = variables[variable], VARIABLE + variable
    for name, value in (flags or {}).items():
        if value is not None:
            values[name], origins[name] = value, FLAG
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        raise WrongUseError(_explain(error, origins, kind)) from error
    return Loaded(settings, origins)


def unknown_variables(known: Iterable[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for every `EDGEWARD_*` variable that none of the settings `known` goes by, with the near name.

    `known` are the fields of every program's settings: they share one environment, so what one program does not know may be
    another's. A sentence and no error, because it may be a later version's, too.
    """
    fields = {"home", *known}
    variables = os.environ if environ is None else environ
    ours = sorted(name for name in variables if name.startswith(ENVIRONMENT_PREFIX))
    # Compared without the prefix, which would make any two of them alike.
    words = {name: name.removeprefix(ENVIRONMENT_PREFIX) for name in ours}
    return [
        f"variable {name} is no setting of any program here and does nothing; "
        f"{_near(word, map(str.upper, fields), ENVIRONMENT_PREFIX)}"
        for name, word in words.items()
        if word.lower() not in fields or not word.isupper()
    ]


def check_known(name: str, known: Iterable[str], where: str) -> None:
    """`WrongUseError`, with the nearest known name, when `name` is not one of `known`."""
    names = list(known)
    if name in names:
        return
    raise WrongUseError(f"unknown key {name!r} in {where}; {_near(name, names)}")


def _near(name: str, names: Iterable[str], prefix: str = "") -> str:
    known = sorted(set(names))
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {prefix + near[0]!r}?"
    return f"known: {', '.join(prefix + each for each in known)}"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WrongUseError(f"settings file {file} does not exist; check the path") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WrongUseError(f"settings file {file} cannot be read: {error}") from error


def _explain(error: ValidationError, origins: Mapping[str, str], kind: type[SettingsModel]) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        said = _in_plain_words(problem["msg"])
        if not path:
            lines.append(said)  # what concerns all settings has all of them as its input, secrets too
            continue
        value = problem.get("input")
        shown = "" if _is_secret(kind, path[0]) or _is_told(value, said) else f"; got {value!r}"
        lines.append(f"{_named(path, origins.get(path[0], DEFAULT))}: {said}{shown}")
    return "; ".join(lines)


def _named(path: Sequence[str], origin: str) -> str:
    """A setting as whoever wrote it knows it: the flag's name, or the setting's and where it stands."""
    if origin == FLAG and all(part.isdecimal() for part in path[1:]):
        return flag_of(path[0])  # one of several values is still the flag's
    return f"{'.'.join(path)} ({origin})"


def flag_of(field: str) -> str:
    """The flag of a setting, which is named like it, without the unit of a time."""
    return f"--{field.removesuffix('_s').replace('_', '-')}"


def _in_plain_words(message: str) -> str:
    """What pydantic says, without what is about pydantic."""
    plain = message.removeprefix("Value error, ").partition(", unable to parse string")[0]
    return f"it should be{plain.removeprefix('Input should be')}" if plain.startswith("Input should be") else plain


def _is_told(value: object, said: str) -> bool:
    """Whether `said` has the value already."""
    return all(str(one) in said for one in value) if isinstance(value, list | tuple) else str(value) in said


def _is_secret(kind: type[SettingsModel], field: str) -> bool:
    return field in kind.model_fields and "Secret" in str(kind.model_fields[field].annotation)
