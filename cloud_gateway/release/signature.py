"""Whether a candidate can stand in for stable: the same tensors, or the difference in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.tensors import TensorSpec


def differences(
    stable: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    candidate: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
) -> list[str]:
    """A sentence for every tensor in which two versions' (inputs, outputs) differ; none where callers cannot tell them apart."""
    return [
        sentence
        for what, before, after in (("input", stable[0], candidate[0]), ("output", stable[1], candidate[1]))
        for sentence in _differences(what, before, after)
    ]


def _differences(what: str, stable: Sequence[TensorSpec], candidate: Sequence[TensorSpec]) -> list[str]:
    before, after = ({spec.name: spec for spec in specs} for specs in (stable, candidate))
    found = [f"{what} {name!r} ({_form(before[name])}) is missing" for name in before if name not in after]
    found += [f"{what} {name!r} ({_form(after[name])}) is new" for name in after if name not in before]
    found += [
        f"{what} {name!r} is {_form(after[name])}, stable's is {_form(before[name])}"
        for name in before
        if name in after and (before[name].datatype, before[name].shape) != (after[name].datatype, after[name].shape)
    ]
    same = [name for name in before if name in after]
    if not found and same != [name for name in after if name in before]:
        found.append(f"{what}s stand in another order: {list(after)}, stable's: {list(before)}")
    return found


def _form(spec: TensorSpec) -> str:
    return f"{spec.datatype} {list(spec.shape)}"
