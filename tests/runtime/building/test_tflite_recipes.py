"""A model that an old converter wrote gets the signature by which calibration names its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.building.tflite_recipes import SIGNATURE, _signature, write_signature
from runtime.bundle.locate import shipped_bundles


def interpreter(file: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(str(file))
    opened.allocate_tensors()
    return opened


def unsigned(file: Path, target: Path) -> Path:
    """The model without its signatures."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    model.signatureDefs = []
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def test_a_model_without_a_signature_gets_one_and_answers_as_before(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    signed = shipped_bundles()["digits"] / "variants" / "fp32.tflite"
    assert _signature(signed) is not None
    bare = unsigned(signed, tmp_path / "bare.tflite")
    assert _signature(bare) is None
    again = write_signature(bare, tmp_path / "again.tflite")
    assert _signature(again) == SIGNATURE
    old, new = interpreter(bare), interpreter(again)
    (given,), (gives,) = old.get_input_details(), old.get_output_details()
    names = new.get_signature_list()[SIGNATURE]
    assert (names["inputs"], names["outputs"]) == ([given["name"]], [gives["name"]])
    rows = np.random.default_rng(0).uniform(0, 1, given["shape"]).astype(np.float32)
    old.set_tensor(given["index"], rows)
    old.invoke()
    answers = new.get_signature_runner(SIGNATURE)(**{given["name"]: rows})
    np.testing.assert_array_equal(answers[gives["name"]], old.get_tensor(gives["index"]))
