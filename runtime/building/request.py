"""What a person asks of `bundle build`: a TOML file, flags over it, and steps of preprocessing in short form."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from runtime.bundle.manifest import ModelName, Part, Shape, Targets, Task
from runtime.bundle.part import Datatype
from runtime.bundle.preprocessing import Step, Steps
from runtime.errors import WrongUseError

MAX_TOML_BYTES = 1 << 20


class InputRequest(Part):
    """What callers send for one input; what is absent is taken from the model and the rows."""

    model_input: str | None = None
    """The source's own name for it, where callers see another one."""
    datatype: Datatype | None = None
    shape: Shape | None = None
    meaning: str = ""
    range: tuple[float, float] | None = None
    preprocess: Steps = ()


class OutputRequest(Part):
    """What callers get for one output."""

    model_output: str | None = None
    meaning: str = ""
    range: tuple[float, float] | None = None


class BuildRequest(Part):
    """Everything about a build but the files."""

    name: ModelName | None = None
    """Absent: the source's stem."""
    version: int = Field(default=1, ge=1)
    description: str = ""
    task: Task | None = None
    """Absent: classification when labels are integers and the first output holds scores, regression when they are floats,
    otherwise generic."""
    inputs: dict[str, InputRequest] = Field(default_factory=dict)
    """By the name that callers use."""
    outputs: dict[str, OutputRequest] = Field(default_factory=dict)
    preprocess: Steps = ()
    """For the only input of a model, without naming it."""
    targets: Targets = Targets()
    class_names: tuple[str, ...] | None = None
    calibration_rows: int = Field(default=100, ge=1)
    """At most so many rows, and at most half of them, are for quantisation; the rest is held out."""
    without: tuple[str, ...] = ()
    """Variants that are not to be made."""
    time_limit_s: float = Field(default=900.0, gt=0)
    """For each conversion and each measurement."""
    seed: int = Field(default=0, ge=0)
    """Of the split of the rows."""
    provenance: dict[str, str] = Field(default_factory=dict)


def read_request(file: Path | None, flags: Mapping[str, Any]) -> BuildRequest:
    """The TOML `file` with `flags` (those that are not None) over it; `WrongUseError` names what does not fit.

    A flag `accuracy_floor` belongs to the targets.
    """
    said: dict[str, Any] = {} if file is None else _read_toml(file)
    given = {key: value for key, value in flags.items() if value is not None}
    targets = {key: given.pop(key) for key in list(given) if key in Targets.model_fields}
    said |= given
    if targets:
        said["targets"] = {**said.get("targets", {}), **targets}
    try:
        return BuildRequest.model_validate(said)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False))
        raise WrongUseError(f"{file or 'the command line'} does not describe a build: {problems}") from error


def parse_steps(texts: Sequence[str]) -> tuple[Step, ...]:
    """Steps from their short forms, in order; `WrongUseError` for anything else.

    resize:HEIGHTxWIDTH[:nearest][:NCHW]   scale:1/255   normalise:MEAN,.../STD,...[:AXIS]   layout:NCHW
    reorder:2,1,0[:AXIS]   cast:FP32
    """
    steps = []
    for text in texts:
        kind, _, rest = text.partition(":")
        try:
            steps.append({"step": kind, **_SHORT_FORMS[kind](rest)})
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise WrongUseError(
                f"preprocessing step {text!r} is not understood; expected one of "
                "resize:32x32, scale:1/255, normalise:0.5,0.5,0.5/0.2,0.2,0.2, layout:NCHW, reorder:2,1,0, cast:FP32"
            ) from error
    try:
        return TypeAdapter(Steps).validate_python(steps)
    except ValidationError as error:
        raise WrongUseError(f"preprocessing {', '.join(texts)}: {error.errors(include_url=False)[0]['msg']}") from error


def _resize(text: str) -> dict[str, Any]:
    size, *words = text.split(":")
    height, width = (int(number) for number in size.lower().split("x"))
    said: dict[str, Any] = {"height": height, "width": width}
    for word in words:
        said["layout" if word in ("NHWC", "NCHW") else "method"] = word
    return said


def _scale(text: str) -> dict[str, Any]:
    above, _, below = text.partition("/")
    return {"by": float(above) / (float(below) if below else 1.0)}


def _normalise(text: str) -> dict[str, Any]:
    numbers, _, axis = text.partition(":")
    mean, std = numbers.split("/")
    said: dict[str, Any] = {"mean": [float(n) for n in mean.split(",")], "std": [float(n) for n in std.split(",")]}
    return said | ({"axis": int(axis)} if axis else {})


def _reorder(text: str) -> dict[str, Any]:
    order, _, axis = text.partition(":")
    return {"order": [int(n) for n in order.split(",")]} | ({"axis": int(axis)} if axis else {})


_SHORT_FORMS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "resize": _resize,
    "scale": _scale,
    "normalise": _normalise,
    "layout": lambda text: {"to": text},
    "reorder": _reorder,
    "cast": lambda text: {"datatype": text},
}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_TOML_BYTES + 1)
        if len(raw) > MAX_TOML_BYTES:
            raise WrongUseError(f"{file} is larger than {MAX_TOML_BYTES} bytes; is it the description of a build?")
        return tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise WrongUseError(f"{file} cannot be read: {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUseError(f"{file} is not TOML: {error}") from error
