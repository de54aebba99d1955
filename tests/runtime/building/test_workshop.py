"""Taking a source in: what is not installed is said with how to get it, before anything runs."""

from pathlib import Path

import pytest

from runtime.building import recipes, workshop
from runtime.building.isolated import Limits
from runtime.bundle.manifest import Format
from runtime.errors import BundleError


def test_what_a_source_needs_and_is_not_installed_is_named_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "READER_NEEDS", {Format.ONNX: ("no_such_module",)})
    with pytest.raises(
        BundleError, match=r"m\.onnx cannot be taken in: no-such-module is not installed: pip install '"
    ):
        workshop.Workshop(tmp_path, Limits()).take_in(tmp_path / "m.onnx", Format.ONNX)


def test_a_torch_program_needs_torch_and_says_so_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "find_spec", lambda module: None)
    with pytest.raises(BundleError, match=r"m\.pt2 cannot be taken in: torch is not installed: pip install '"):
        workshop.Workshop(tmp_path, Limits()).take_in(tmp_path / "m.pt2", Format.TORCH)
