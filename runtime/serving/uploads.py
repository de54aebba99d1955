"""Model files that come with a load (`file:1/model.onnx`), kept in one folder of this machine and nowhere else."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import InvalidInputError, PayloadTooLargeError

# One load is bounded by the server's max_message_bytes; this bounds what remains of all of them.
MAX_TOTAL_BYTES = 4 << 30
MAX_FILES = 16

# What `read_model_folder` looks for, and nothing that could lead elsewhere.
_FILE = re.compile(r"[1-9][0-9]{0,9}/model\.(onnx|tflite|pt2)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Uploads:
    """A folder of uploads, one per content: `folder/DIGEST/NAME/1/model.onnx`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, model: str, files: Mapping[str, bytes]) -> Path:
        """Writes the files and returns their model folder. Nothing stays where something is wrong with one of them."""
        if not _NAME.fullmatch(model):
            raise InvalidInputError(
                f"{model!r:.80} cannot name a model with files of its own; expected letters, digits, '.', '_' and '-'"
            )
        if len(files) > MAX_FILES:
            raise InvalidInputError(f"{len(files)} files for model {model!r}; at most {MAX_FILES} are taken")
        for path in files:
            if not _FILE.fullmatch(path):
                raise InvalidInputError(f"file {path!r:.80} is not taken; expected VERSION/model.onnx, .tflite or .pt2")
        target = self._folder / _digest(model, files)
        if not target.exists():
            self._check_room(sum(map(len, files.values())))
            # Written beside its place and renamed: a folder that exists is whole.
            with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
                fresh = Path(scratch) / "upload"
                for path, content in files.items():
                    file = fresh / model / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
                fresh.rename(target)
        return target / model

    def drop(self, model_folder: Path) -> None:
        """Removes what `keep` returned."""
        shutil.rmtree(model_folder.parent, ignore_errors=True)

    def _check_room(self, size_bytes: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        used = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
        if used + size_bytes > MAX_TOTAL_BYTES:
            raise PayloadTooLargeError(
                f"uploaded models take {used} bytes, and {size_bytes} more would pass {MAX_TOTAL_BYTES}; "
                f"remove some from {self._folder}"
            )


def _digest(model: str, files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256(model.encode())
    for path, content in sorted(files.items()):
        digest.update(f"\0{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
