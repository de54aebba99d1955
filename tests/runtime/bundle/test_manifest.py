"""A manifest says what it may say, or a text that names the key, the value and what was expected."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bundle.manifest import MAX_MANIFEST_BYTES, Format, Task, parse_manifest
from runtime.errors import BundleError

Json = dict[str, Any]


def manifest() -> Json:
    return {
        "schema_version": 1,
        "name": "digits",
        "version": 2,
        "task": "classification",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8], "range": [0, 1]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
        "targets": {"accuracy_floor": 0.97},
        "variants": [
            {
                "name": "int8.tflite",
                "file": "variants/int8.tflite",
                "format": "tflite",
                "precision": "int8",
                "sha256": "0" * 64,
                "size_bytes": 10,
                "fixed_batch": 1,
                "mapping": {
                    "inputs": {"image": {"name": "args_0", "transpose": [0, 2, 3, 1], "datatype": "INT8", "scale": 0.1}}
                },
            }
        ],
        "samples": {"file": "samples.npz", "sha256": "1" * 64, "size_bytes": 5},
    }


def test_a_whole_manifest_is_read() -> None:
    read = parse_manifest(json.dumps(manifest()), "here")
    assert (read.name, read.version, read.task) == ("digits", 2, Task.CLASSIFICATION)
    assert read.reference.format is Format.TFLITE
    assert read.reference.mapping.inputs["image"].transpose == (0, 2, 3, 1)
    assert read.inputs[0].spec.is_batched


def _set(*path: Any) -> Callable[[Json], None]:
    """The change that puts the last of `path` where the others lead."""
    *way, key, value = path

    def change(said: Json) -> None:
        part: Any = said
        for step in way:
            part = part[step]
        part[key] = value

    return change


def _double(key: str) -> Callable[[Json], None]:
    def change(said: Json) -> None:
        said[key] = said[key] * 2

    return change


WRONG: dict[str, tuple[Callable[[Json], None], list[str]]] = {
    "unknown key": (_set("desription", "x"), ["unknown key 'desription'", "did you mean 'description'"]),
    "unknown key inside": (
        _set("variants", 0, "size_byte", 3),
        ["unknown key 'variants.0.size_byte'", "did you mean 'size_bytes'"],
    ),
    "unknown key, nothing near": (_set("qqqqqq", 1), ["unknown key 'qqqqqq'"]),
    "missing key": (_set("variants", 0, "sha256", None), ["variants.0.sha256"]),
    "schema of tomorrow": (_set("schema_version", 2), ["schema_version", "1"]),
    "version nought": (_set("version", 0), ["version", "greater than or equal to 1"]),
    "no variants": (_set("variants", []), ["variants"]),
    "name with a slash": (_set("name", "a/b"), ["'a/b' is no model name"]),
    "name with a line break": (_set("name", "digits\n"), ["is no model name"]),
    "unknown datatype": (_set("inputs", 0, "datatype", "FLOAT"), ["'FLOAT'", "FP32"]),
    "unknown format": (_set("variants", 0, "format", "pb"), ["variants.0.format", "onnx"]),
    "shape below -1": (_set("inputs", 0, "shape", [-2, 8]), ["[-2, 8]", "-1 is a dimension free to vary"]),
    "empty range": (_set("inputs", 0, "range", [1, 1]), ["[1.0, 1.0]", "lowest, highest"]),
    "digest too short": (_set("variants", 0, "sha256", "ab"), ["sha256"]),
    "accuracy over 1": (_set("variants", 0, "accuracy", 97), ["accuracy"]),
    "accuracy not a number": (_set("variants", 0, "accuracy", float("nan")), ["accuracy"]),
    "absolute path": (_set("variants", 0, "file", "/etc/passwd"), ["'/etc/passwd' does not stay inside"]),
    "traversal": (_set("samples", "file", "a/../../x.npz"), ["does not stay inside", "variants/fp32.onnx"]),
    "windows path": (_set("samples", "file", "..\\x.npz"), ["does not stay inside"]),
    "drive": (_set("samples", "file", "C:x.npz"), ["does not stay inside"]),
    "the folder itself": (_set("samples", "file", "."), ["does not stay inside"]),
    "empty path": (_set("samples", "file", ""), ["does not stay inside"]),
    "two variants of a name": (_double("variants"), ["variant 'int8.tflite' stands twice"]),
    "two inputs of a name": (_double("inputs"), ["input 'image' stands twice"]),
    "two outputs of a name": (_double("outputs"), ["output 'scores' stands twice"]),
    "no permutation": (
        _set("variants", 0, "mapping", "inputs", "image", "transpose", [0, 1, 1, 2]),
        ["[0, 1, 1, 2]", "[0, 2, 3, 1]"],
    ),
    "batch moved": (
        _set("variants", 0, "mapping", "inputs", "image", "transpose", [1, 0, 2, 3]),
        ["the batch first"],
    ),
    "axes of another rank": (
        _set("variants", 0, "mapping", "inputs", "image", "transpose", [0, 2, 1]),
        ["4 dimensions", "[0, 2, 1]"],
    ),
    "mapping of an unknown tensor": (
        _set("variants", 0, "mapping", "outputs", {"score": {"name": "out"}}),
        ["unknown output 'score'", "'scores'"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case: str) -> None:
    change, words = WRONG[case]
    said = manifest()
    change(said)
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(said), "models/digits/manifest.json")
    for word in ["models/digits/manifest.json", *words]:
        assert word in str(caught.value)


def test_several_faults_are_told_at_once() -> None:
    said = manifest() | {"extra": 1, "version": -1}
    with pytest.raises(BundleError, match=r"version: .*unknown key 'extra'"):
        parse_manifest(json.dumps(said), "here")


def test_a_huge_manifest_is_refused_unparsed() -> None:
    with pytest.raises(BundleError, match=f"larger than {MAX_MANIFEST_BYTES}"):
        parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1), "here")


@pytest.mark.parametrize("text", [b"", b"\x00\xff\xfe", b"[1]", b"nonsense", b'{"name":', b"[" * 100_000, b'"\\ud800"'])
def test_garbage_is_no_manifest(text: bytes) -> None:
    with pytest.raises(BundleError, match="here is not a manifest of schema 1"):
        parse_manifest(text, "here")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(manifest())), value=_JSON)
def test_any_value_anywhere_is_a_manifest_or_a_bundle_error(key: str, value: Any) -> None:
    try:
        read = parse_manifest(json.dumps(manifest() | {key: value}), "here")
    except BundleError:
        return
    assert parse_manifest(read.model_dump_json(), "there") == read
