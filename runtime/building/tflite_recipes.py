"""TFLite: scale and zero point of its inputs and outputs, its precision, int8 made of fp32. Heavy imports inside functions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runtime.errors import BundleError
from runtime.tensors import Array

SIGNATURE: Final = "serving_default"
"""What converters call the only signature of a model."""


def take_in(source: str, target: str) -> str:
    """Writes `source` to `target`; its precision (fp32, fp16 or int8: any of its tensors is)."""
    shutil.copyfile(source, target)
    kinds = {details["dtype"].__name__ for details in _interpreter(target).get_tensor_details()}
    if kinds & {"int8", "uint8", "int16"}:
        return "int8"
    return "fp16" if "float16" in kinds else "fp32"


def write_int8(source: str | Path, target: str | Path, rows: Sequence[Mapping[str, Array]]) -> None:
    """int8 weights per channel and int8 activations, inputs and outputs among them; `rows` are inputs of one call each."""
    from ai_edge_quantizer import quantizer, recipe

    signature = _signature(source)
    with tempfile.TemporaryDirectory() as scratch:
        if signature is None:
            source, signature = write_signature(source, Path(scratch) / "signed.tflite"), SIGNATURE
        work = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        calibrated = work.calibrate({signature: [dict(call) for call in rows]})
        Path(target).write_bytes(work.quantize(calibrated).quantized_model)


def write_dynamic_int8(source: str | Path, target: str | Path) -> None:
    """int8 weights per channel; activations are quantised while it runs, so nothing is calibrated."""
    from ai_edge_quantizer import quantizer, recipe

    work = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
    Path(target).write_bytes(work.quantize().quantized_model)


def quantisation_of(file: str | Path) -> dict[str, dict[str, tuple[float, int]]]:
    """(scale, zero point) of quantised inputs and outputs, in the order of the file: {"inputs": {"0": ...}, "outputs": ...}."""
    reader = _interpreter(file)

    def scales(details: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
        found = {}
        for place, one in enumerate(details):
            scale, zero_point = one["quantization"]
            if scale:
                found[str(place)] = (float(scale), int(zero_point))
        return found

    return {"inputs": scales(reader.get_input_details()), "outputs": scales(reader.get_output_details())}


def _interpreter(file: str | Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    try:
        return Interpreter(str(file))
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{file} cannot be opened by LiteRT: {error}; expected a TensorFlow Lite model") from error


def write_signature(source: str | Path, target: Path) -> Path:
    """`source` with a signature in which every input and output has its tensor's own name; calibration names rows by one.

    Converters before 2021 wrote none. Weights are copied as they are.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(Path(source).read_bytes()), 0)
    graph = model.subgraphs[0]

    def named(places: Sequence[int]) -> list[Any]:
        found = []
        for place in places:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[place].name, place
            found.append(entry)
        return found

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = named(graph.inputs), named(graph.outputs)
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def _signature(file: str | Path) -> str | None:
    """The name of the model's only signature; None where it has none."""
    signatures = list(_interpreter(file).get_signature_list())
    if len(signatures) > 1:
        raise BundleError(f"it has the signatures {', '.join(signatures)}; a model of one signature is quantised")
    return str(signatures[0]) if signatures else None
