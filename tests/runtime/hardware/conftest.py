"""Recorded machines: a `Host` over a small tree of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runtime.hardware import Host

Record = Callable[..., Host]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """`record({"/proc/meminfo": "..."}, system=..., arch=...)` is a machine that has these files and nothing else."""

    numbers = count()

    def build(files: Mapping[str, str | bytes] | None = None, **facts: Any) -> Host:
        root = tmp_path / f"machine{next(numbers)}"
        root.mkdir()
        for path, content in (files or {}).items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Host(**{"root": root, "system": "linux", "arch": "x86_64", **facts})

    return build
