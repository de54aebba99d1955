"""The oracle of the demo: each variant of a bundle run by its engine alone, without a line of Edgeward's runtime between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

# The same engine on the same file: only the split among threads may round a float32 soft max differently.
TOLERANCE = 1e-5

Numbers = np.ndarray[Any, Any]


class Oracle:
    """Probabilities [row, class] of every image, by variant; each variant runs once, when it is first asked for."""

    def __init__(self, root: Path, variants: dict[str, str], images: Numbers) -> None:
        self._root = root
        self._variants = variants
        self._images = images
        self._known: dict[str, Numbers] = {}

    def is_right(self, variant: str, row: int, answer: Numbers) -> bool:
        """Whether `answer` is what `variant` says of image `row`: every value within `TOLERANCE`, and the same digit."""
        if variant not in self._known:
            file = self._root / self._variants[variant]
            self._known[variant] = (
                _run_onnx(file, self._images) if file.suffix == ".onnx" else _run_tflite(file, self._images)
            )
        expected = self._known[variant][row]
        return bool(np.abs(answer - expected).max() <= TOLERANCE and answer.argmax() == expected.argmax())


def _run_onnx(file: Path, images: Numbers) -> Numbers:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[i : i + 1]})[0] for i in range(len(images))])


def _run_tflite(file: Path, images: Numbers) -> Numbers:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for image in images:
        interpreter.set_tensor(source["index"], _quantised(image[None], source))
        interpreter.invoke()
        rows.append(_dequantised(interpreter.get_tensor(target["index"]), target))
    return np.concatenate(rows)


def _quantised(value: Numbers, detail: dict[str, Any]) -> Numbers:
    if detail["dtype"] == np.float32:
        return value
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    quantised: Numbers = np.clip(np.rint(value / np.float32(scale)) + zero_point, limits.min, limits.max).astype(
        detail["dtype"]
    )
    return quantised


def _dequantised(value: Numbers, detail: dict[str, Any]) -> Numbers:
    if detail["dtype"] == np.float32:
        return value
    scale, zero_point = detail["quantization"]
    result: Numbers = (value.astype(np.float32) - zero_point) * np.float32(scale)
    return result
