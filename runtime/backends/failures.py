"""How an engine's failure is told: its message on one line, and the tensors it failed on."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.tensors import Array

# Engines put whole graphs or C++ stacks into their messages; the cause of the wrapped error keeps all of it.
MAX_MESSAGE_CHARS = 600


def one_line(error: BaseException) -> str:
    """The engine's message without line breaks, cut where it goes on for pages; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:MAX_MESSAGE_CHARS]}…"


def show_tensors(inputs: Mapping[str, Array]) -> str:
    """`'image' float32 [1, 3, 32, 32]` for each input."""
    return ", ".join(f"{name!r} {value.dtype} {list(value.shape)}" for name, value in inputs.items())
