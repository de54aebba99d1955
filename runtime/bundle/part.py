"""What every part of a bundle's JSON is held to, and the datatypes it may name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from runtime.tensors import DATATYPES


class Part(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def _datatype(name: str) -> str:
    if name not in DATATYPES:
        raise ValueError(f"unknown datatype {name!r}; expected one of {', '.join(sorted(DATATYPES))}")
    return name


Datatype = Annotated[str, AfterValidator(_datatype)]
