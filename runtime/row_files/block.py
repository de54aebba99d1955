"""Rows as they come out of a file: some at a time, those that cannot be read apart, each with its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.tensors import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a file has to hold for one input of a model."""

    tensor: TensorSpec
    value_range: tuple[float, float] | None = None
    """What the manifest says values lie in; pixels of an image are brought into it where the input is a float."""

    @property
    def name(self) -> str:
        """The input's name."""
        return self.tensor.name

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row; -1 where it is free to vary."""
        return self.tensor.shape[1:]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One row that makes no tensors."""

    row: int
    """Its number in the input, from 0."""
    reason: str
    where: str = ""
    """Where a person finds it: a line, a file; empty where the number says it."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one shape, stacked: what a model takes in one call."""

    rows: tuple[int, ...] | range
    """Their numbers in the input, from 0."""
    inputs: dict[str, Array]
    """By input name, [row, ...]."""


@dataclass(frozen=True, slots=True)
class Block:
    """The next rows of a file."""

    first: int
    count: int
    """Rows of the input that it covers, the unreadable ones too."""
    groups: tuple[Group, ...]
    unreadable: tuple[Unreadable, ...] = ()
    names: tuple[str, ...] | None = None
    """What the rows are called (files of images), for all `count` of them; None where they have only numbers."""


class RowReader(Protocol):
    """One file of rows, read forwards."""

    @property
    def rows(self) -> int | None:
        """How many there are; None where only reading all of it would tell."""

    @property
    def unused(self) -> Sequence[str]:
        """Columns or arrays that no input of the model is made from."""

    @property
    def assumed(self) -> str:
        """What is taken for an input without having its name, in words; empty where every input was found by its name."""

    def skip(self, rows: int) -> None:
        """Goes past the next `rows` rows without making tensors of them."""

    def read(self, rows: int) -> Block | None:
        """The next rows, fewer at the end; None after it. `InvalidInputError` where the file as a whole is broken."""
