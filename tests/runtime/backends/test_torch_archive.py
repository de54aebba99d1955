"""An archive that could run code is refused before PyTorch loads it; an honest one is not."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.backends.base import RunOptions
from runtime.backends.torch import TorchBackend
from runtime.backends.torch_archive import check_archive, is_plain_expression
from runtime.bundle.manifest import Format
from runtime.errors import BundleError


@pytest.fixture
def entries(affine_file: Callable[[Format], Path]) -> dict[str, bytes]:
    """The honest archive, by entry name."""
    with zipfile.ZipFile(affine_file(Format.TORCH)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"m/{name}", data)
    return path


def change(raw: bytes, path: str, value: Any) -> bytes:
    """JSON with the value at a dotted path replaced."""
    document = json.loads(raw)
    node = document
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    return json.dumps(document).encode()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_an_honest_archive_passes(entries: dict[str, bytes], tmp_path: Path) -> None:
    check_archive(write(tmp_path / "m.pt2", entries))


@pytest.mark.parametrize(
    "name",
    [
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/aotinductor/model/model.so",
        "data/sample_inputs/other.pt",
        "serialized_state_dict.pt",
    ],
)
def test_pickles_and_libraries_are_refused(name: str, entries: dict[str, bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt2", {**entries, name: pickle.dumps(Evil())})
    with pytest.raises(BundleError, match="never loaded"):
        TorchBackend.cpu().open(path, RunOptions())


def test_a_pickled_weight_is_refused(entries: dict[str, bytes], tmp_path: Path) -> None:
    config = "data/weights/model_weights_config.json"
    entries[config] = change(entries[config], "config.weight.use_pickle", True)
    with pytest.raises(BundleError, match="'weight' as a pickle"):
        TorchBackend.cpu().open(write(tmp_path / "m.pt2", entries), RunOptions())


def test_example_inputs_beyond_tensors_are_refused(entries: dict[str, bytes], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(((Evil(),), {}), buffer)
    entries["data/sample_inputs/model.pt"] = buffer.getvalue()
    with pytest.raises(BundleError, match="more than tensors"):
        TorchBackend.cpu().open(write(tmp_path / "m.pt2", entries), RunOptions())


def test_code_in_a_shape_is_refused(entries: dict[str, bytes], tmp_path: Path) -> None:
    model = entries["models/model.json"].decode()
    assert "Symbol('" in model
    entries["models/model.json"] = model.replace("Symbol('", "__import__('os').system('").encode()
    with pytest.raises(BundleError, match="expression"):
        TorchBackend.cpu().open(write(tmp_path / "m.pt2", entries), RunOptions())


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("graph_module.graph.nodes.0.name", "x=print('ran')", "name"),
        ("graph_module.module_call_graph.0.signature.forward_arg_names.0", "x=print('ran')", "name"),
        (
            "graph_module.module_call_graph.0.signature.in_spec",
            json.dumps([1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]),
            "container type",
        ),
    ],
)
def test_code_in_the_program_is_refused(
    path: str, value: str, says: str, entries: dict[str, bytes], tmp_path: Path
) -> None:
    entries["models/model.json"] = change(entries["models/model.json"], path, value)
    with pytest.raises(BundleError, match=says):
        TorchBackend.cpu().open(write(tmp_path / "m.pt2", entries), RunOptions())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_named_twice_is_refused(entries: dict[str, bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt2", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/models/model.json", b"{}")
    with pytest.raises(BundleError, match="twice"):
        check_archive(path)


@pytest.mark.parametrize(
    "text",
    [
        "s77",
        "2*s0 + 1",
        "Symbol('s77', positive=True, integer=True)",
        "FloorDiv(s0, 2)",
        "Max(1, s0) < 5",
        "floor(s0/2)",
    ],
)
def test_arithmetic_is_plain(text: str) -> None:
    assert is_plain_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "exec('x')",
        "eval('x')",
        "open('x')",
        "Max('__import__(0)')",
        "Symbol('a b')",
        "s0.__class__",
        "[s0 for s0 in (1,)]",
        "(lambda: 0)()",
        "f'{s0}'",
        "(",
        "(" * 5000,
        "",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert not is_plain_expression(text)
