"""What this process knows of a `.tflite` file that it opened before: a small one's bytes, and what its tensors are.

Both cost as much as the rest of a small session. To map a file of 150 KB anew takes 40 µs of the 390 that its interpreter takes
(a perceptron, Intel Xeon, November 2026), to ask an interpreter for its tensors 66 of 200 (keyword spotting).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from runtime.backends.litert_tensors import Tensors
from runtime.bundle.unchanged import Signature, signature_at

MAX_KEPT_BYTES: Final = 1 << 20
"""Of a file whose bytes are kept: larger ones take long enough for other reasons, and are mapped."""


class KnownFile:
    """One state of one file."""

    __slots__ = ("content", "tensors")

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        """None: to be opened by its path."""
        self.tensors: Tensors | None = None
        """None: nobody asked an interpreter of it yet."""


def known_file(name: str) -> KnownFile:
    """What is known of the file as it is now; `OSError` where it cannot be read.

    Its signature is from before it was read: whatever the file became since then has another.
    """
    signature = signature_at(name)
    return KnownFile(None) if signature is None else _known(name, signature)


@lru_cache(maxsize=16)
def _known(name: str, signature: Signature) -> KnownFile:
    file = Path(name)
    return KnownFile(file.read_bytes() if file.stat().st_size <= MAX_KEPT_BYTES else None)
