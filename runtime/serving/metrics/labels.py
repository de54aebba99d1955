"""How metrics say who answers for a version: `role` (stable or candidate) and `served_by` (edge or cloud)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Labels = Mapping[str, str]
LabelsOf = Callable[[str, str], Labels]
"""`role` and `served_by` of a model and version, as metrics carry them."""


def at_the_edge(model: str, version: str) -> Labels:
    """The labels of a program without releases that is not the cloud."""
    return {"role": "stable", "served_by": "edge"}


def in_the_cloud(model: str, version: str) -> Labels:
    """The labels of a gateway that releases nothing now."""
    return {"role": "stable", "served_by": "cloud"}
