"""A look into a `.pt2` archive before PyTorch loads it: nothing in it may be a pickle that runs code, or code.

What `torch.export.load` does with an archive (read in PyTorch 2.13, `torch/export/pt2_archive/_package.py` and
`torch/_export/serde/serialize.py`): it unpickles weights and constants marked `use_pickle`, custom objects, and files
of the older formats without restriction; it loads compiled libraries; it reads example inputs with `weights_only=True`
and, *when that fails, again without*; shapes go through `sympy.sympify`, which evaluates Python; names become source
code. None of these is needed for tensors in and tensors out, so an archive that has one is refused. `torch.export.save`
writes plain tensors, JSON, and the example inputs, which pass here when they pass the restricted unpickler.

This keeps accidents and known tricks out. It does not make a stranger's archive safe: ship it in a bundle you trust.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from runtime.backends.failures import one_line
from runtime.errors import BundleError

# A graph of a large transformer is some megabytes of JSON, and weights are not in it.
MAX_JSON_BYTES: Final = 512 << 20
MAX_EXAMPLE_BYTES: Final = 1 << 30

# What torch.export.save writes, below the archive's root folder. Everything else is refused.
_PLAIN: Final = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|extra/.*|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_CONFIG: Final = re.compile(r"data/(weights|constants)/model_(weights|constants)_config\.json")
_PROGRAM: Final = "models/model.json"
_EXAMPLES: Final = "data/sample_inputs/model.pt"

# Names of tensors, modules, operators and enums; they end up in generated source.
_NAME: Final = re.compile(r"[\w.:<>\[\]# /*-]*")
_SYMBOL: Final = re.compile(r"[A-Za-z_]\w*")
# Constants that operators take, printed with `repr`; and text for people, which is never read back as code.
_FREE_TEXT_KEYS: Final = frozenset({"as_string", "as_strings", "metadata", "guards_code", "torch_version"})
_TREE_TYPES: Final = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_EXPRESSION_NODES: Final = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.Tuple,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
# Python's own functions are reachable from sympify; those of sympy and torch for shapes start with a capital, or are:
_LOWER_FUNCTIONS: Final = frozenset({"floor", "ceiling", "sqrt", "log", "exp"})


def check_archive(file: Path) -> None:
    """`BundleError`, saying what and where, unless `file` holds only what a program of tensors needs. Imports torch."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive, file)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, RecursionError, NotImplementedError) as error:
        raise BundleError(
            f"{file} is no .pt2 archive: {one_line(error)}; expected a file of torch.export.save"
        ) from error


def _check(archive: zipfile.ZipFile, file: Path) -> None:
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) != len(entries):
        # Two readers may take different ones of two entries of the same name.
        raise BundleError(f"{file} names an entry twice; save it again with torch.export.save")
    roots = {entry.filename.partition("/")[0] for entry in entries}
    if len(roots) != 1:
        raise BundleError(
            f"{file} is no .pt2 archive of PyTorch 2.9 or later (one folder at its root); "
            "save it again with torch.export.save"
        )
    seen = set()
    for entry in entries:
        name = entry.filename.partition("/")[2]
        seen.add(name)
        if _PLAIN.fullmatch(name):
            continue
        if _CONFIG.fullmatch(name):
            _check_config(_read_json(archive, entry), name, file)
        elif name == _PROGRAM:
            for problem in _problems(_read_json(archive, entry)):
                raise BundleError(
                    f"{file} holds {problem} in {name}, which PyTorch would run as code; it is not loaded"
                )
        elif name == _EXAMPLES:
            _check_examples(_read(archive, entry, MAX_EXAMPLE_BYTES), file)
        else:
            raise BundleError(
                f"{file} holds {name!r}, which may be a pickle or compiled code and is never loaded; "
                "export the plain program with torch.export.save"
            )
    if _PROGRAM not in seen:
        raise BundleError(f"{file} holds no {_PROGRAM}; expected a file of torch.export.save of PyTorch 2.9 or later")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit_bytes: int) -> bytes:
    if entry.file_size > limit_bytes:
        raise BundleError(
            f"{entry.filename!r} of {archive.filename} has {entry.file_size} bytes; the cap is {limit_bytes}"
        )
    return archive.read(entry)


def _read_json(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    return json.loads(_read(archive, entry, MAX_JSON_BYTES))


def _check_config(config: Any, name: str, file: Path) -> None:
    """Every weight and constant is a plain tensor: its bytes, not a pickle."""
    for key, payload in config["config"].items():
        if payload.get("use_pickle") or payload.get("tensor_meta") is None:
            raise BundleError(
                f"{file} holds {key!r} as a pickle ({name}); pickles are never loaded: "
                "export a program whose weights are dense tensors"
            )


def _check_examples(raw: bytes, file: Path) -> None:
    if not raw:
        return
    import torch

    try:
        torch.load(io.BytesIO(raw), weights_only=True)
    except Exception as error:
        raise BundleError(
            f"the example inputs in {file} hold more than tensors ({one_line(error)[:200]}), "
            "which PyTorch would unpickle; export the program with tensors as its arguments"
        ) from error


def _problems(node: Any, key: str = "") -> Iterator[str]:
    """What in the JSON of a program could be run as code: a word on each."""
    if isinstance(node, dict):
        for name, value in node.items():
            if not _NAME.fullmatch(name):
                yield f"the key {name[:80]!r}"
            if name not in _FREE_TEXT_KEYS:
                yield from _problems(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _problems(value, key)
    elif isinstance(node, str):
        if key in ("in_spec", "out_spec"):
            yield from _tree_problems(node)
        elif key == "expr_str":
            if not is_plain_expression(node):
                yield f"the expression {node[:80]!r}"
        elif not _NAME.fullmatch(node):
            yield f"the name {node[:80]!r}"


def _tree_problems(text: str) -> Iterator[str]:
    """Trees of tuples, lists and dictionaries; other types import modules when they are read."""
    if not text:
        return
    _, tree = json.loads(text)
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if part["type"] not in _TREE_TYPES:
            yield f"the container type {part['type']!r}"
        if "__enum__" in str(part["context"]):
            yield "an enum as a key"
        waiting += part["children_spec"]


def is_plain_expression(text: str) -> bool:
    """Whether `text` is arithmetic on symbols, such as `2*Symbol('s77', positive=True)`: no attribute, no call else."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _EXPRESSION_NODES):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and _is_function(node.func.id)):
            return False
        # sympify evaluates strings inside too, so they may hold a symbol's name and nothing else.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _SYMBOL.fullmatch(node.value):
            return False
    return True


def _is_function(name: str) -> bool:
    return name[:1].isupper() or name in _LOWER_FUNCTIONS
