"""Bundles of the models, built as a user builds them and kept: `python -m benchmarks.selection.bundles FOLDER NAME` builds one.

A bundle is kept under what it was made of and with: other versions, another converter installed, or another recipe make it anew.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from benchmarks.selection.models import Skipped, Subject, subjects
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError

_ROOT: Final = Path(__file__).resolve().parents[2]
_LIBRARIES: Final = (
    *("ai-edge-litert", "ai-edge-quantizer", "litert-torch", "numpy"),
    *("onnx", "onnxruntime", "onnxscript", "torch"),
)
_BUILD_TIMEOUT_S: Final = 1800.0
"""For one model; the largest takes minutes, most of them in the converters to TFLite."""
_CONVERSION_TIME_S: Final = 600.0
_SKIPPED: Final = 3
"""The exit code of a build whose model is not here."""


class NotBuiltError(Exception):
    """A model of which no bundle came; the text says why."""


def source_of(subject: Subject, folder: Path) -> str:
    """What `edgeward.load` takes: a name that ships, or the kept bundle, built in a process of its own where it is not there yet.

    `Skipped` where the model cannot be had; `NotBuiltError` where it cannot be built.
    """
    if subject.prepare is None:
        return subject.name
    target = folder_of(subject.name, folder)
    if not target.is_dir():
        # Converters and their threads end with it: nothing of them is in the process that measures.
        command = [sys.executable, "-m", "benchmarks.selection.bundles", str(folder), subject.name]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False)
        said = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()[-1]
        if done.returncode == _SKIPPED:
            raise Skipped(said)
        if done.returncode != 0 or not target.is_dir():
            raise NotBuiltError(f"its bundle could not be built: {said[:300]}")
    return str(target)


def folder_of(name: str, folder: Path) -> Path:
    """Where the bundle of a model lies, or will."""
    return folder / f"{name}-{_made_with()[:12]}"


def left_out(bundle: Bundle) -> Mapping[str, str]:
    """Variants that the bundle lacks, and why."""
    return {} if bundle.manifest is None else {left.name: left.reason for left in bundle.manifest.left_out}


def _made_with() -> str:
    """What decides what comes of a build: versions of libraries, and our own recipes and models."""
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {_version(library)}\n".encode())
    for source in (*sorted((_ROOT / "runtime" / "building").glob("*.py")), *sorted(Path(__file__).parent.glob("*.py"))):
        if source.parent.name == "building" or source.name in ("models.py", "networks.py", "torch_graph.py"):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _build(subject: Subject, folder: Path) -> None:
    """Builds where `source_of` looks; nothing is there before it is whole."""
    from runtime.building.build import build_bundle
    from runtime.building.request import parse_steps, read_request

    if subject.prepare is None or (target := folder_of(subject.name, folder)).is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for outdated in folder.glob(f"{subject.name}-" + "[0-9a-f]" * 12):
        shutil.rmtree(outdated)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        material = subject.prepare(Path(scratch))
        rows = Path(scratch) / "rows.npz"
        material.write_rows(rows)
        flags = {"name": subject.name, "time_limit_s": _CONVERSION_TIME_S, **material.flags}
        request = read_request(None, {**flags, "preprocess": parse_steps(material.steps) or None})
        build_bundle(material.source, Path(scratch) / "bundle", rows, request)
        (Path(scratch) / "bundle").rename(target)


def main(arguments: Sequence[str]) -> int:
    """Builds one model's bundle; what went wrong is the last line."""
    folder, name = Path(arguments[0]), arguments[1]
    try:
        _build(next(subject for subject in subjects() if subject.name == name), folder)
    except Skipped as reason:
        print(reason)
        return _SKIPPED
    except EdgewardError as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
