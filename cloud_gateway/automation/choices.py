"""The answers that a person may choose from: the classes of the model version that an item is of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from runtime.bundle.manifest import Task
from runtime.engine.engine import Engine
from runtime.errors import EdgewardError, InvalidInputError

Choices = Callable[[str, str, str], Sequence[str]]
"""Given model, version and the output that holds the answer (empty: the first): names of classes, by number; none where the
answer is no class."""

# Beyond so many classes without names nobody chooses from a list of numbers.
MOST_UNNAMED: Final = 100
MOST_SAID: Final = 12
# A text is a number's only where the number is written that way: "7" is 7, while "007" and "+7" are names.
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,14}")


def no_choices(_model: str, _version: str, _output: str) -> Sequence[str]:
    """Where nothing is known of the models: a `Choices`."""
    return ()


def choices_in(engine: Engine, class_names: Callable[[str, str], Sequence[str] | None]) -> Choices:
    """Of what `engine` serves; of a version that is gone, those of the one that serves now."""

    def choices(model: str, version: str, output: str) -> Sequence[str]:
        for wanted in (version, ""):
            try:
                found = engine.model(model, wanted)
                names = class_names(model, wanted)
            except EdgewardError:
                continue
            shapes = {one.name: one.shape for one in found.outputs}
            shape = shapes.get(output or next(iter(shapes), ""), ())
            manifest = found.bundle.manifest
            is_classifier = manifest is not None and manifest.task is Task.CLASSIFICATION
            return classes(names, shape, is_classifier=is_classifier)
        return ()

    return choices


def classes(names: Sequence[str] | None, shape: Sequence[int], *, is_classifier: bool) -> Sequence[str]:
    """Names by class number of an output of `shape`, [batch, class]; numbers where a classifier's manifest names none."""
    if len(shape) < 2:
        return ()
    if names is not None:
        return tuple(names) if shape[-1] in (-1, len(names)) else ()
    return tuple(map(str, range(shape[-1]))) if is_classifier and 1 < shape[-1] <= MOST_UNNAMED else ()


def numbered(answer: Any, choices: Sequence[str]) -> Any:
    """`answer` with names of classes as their numbers, which is how models say them; `InvalidInputError` for no class.

    A text that is no name may be a number. Where there are no `choices`, whatever else is said stays as it is.
    """
    if isinstance(answer, list):
        return [None if one is None else numbered(one, choices) for one in answer]
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, str) and _NUMBER.fullmatch(answer):
        answer = int(answer)
    if not choices:
        return answer
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    known = ", ".join(choices[:MOST_SAID]) + (", …" if len(choices) > MOST_SAID else "")
    raise InvalidInputError(
        f"answer {answer!r:.80} is no class of the model; expected one of {known}, or its number from 0 to {len(choices) - 1}"
    )
