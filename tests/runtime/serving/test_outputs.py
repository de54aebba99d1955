"""What may be asked of a model's outputs is known before it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.errors import InvalidInputError
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.outputs import check_typed
from runtime.tensors import TensorSpec
from runtime.wire.values import InferenceRequest, RequestedOutput

SPECS = (TensorSpec("half", "FP16", (-1, 2)), TensorSpec("full", "FP32", (-1, 2)))
TYPED = {"binary_data_output": False}
SLOT: object = object()


def asked(*outputs: RequestedOutput) -> InferenceRequest:
    return InferenceRequest("m", {}, outputs=outputs, parameters=TYPED)


def test_an_output_without_typed_contents_is_refused_where_it_would_come_so() -> None:
    for wanted in (asked(), asked(RequestedOutput("half")), asked(RequestedOutput("full"), RequestedOutput("half"))):
        with pytest.raises(InvalidInputError, match="'half' is FP16, .* leave 'binary_data_output' out"):
            check_typed(SPECS, wanted)


@pytest.mark.parametrize(
    "request_",
    [
        InferenceRequest("m", {}),
        InferenceRequest("m", {}, parameters={"binary_data_output": True}),
        asked(RequestedOutput("full")),
        asked(RequestedOutput("half", {"classification": 1})),
        asked(RequestedOutput("half", slot=SLOT)),  # type: ignore[arg-type]
    ],
    ids=["by default", "raw", "not wanted", "classified", "in shared memory"],
)
def test_it_may_come_in_any_other_way(request_: InferenceRequest) -> None:
    check_typed(SPECS, request_)


async def test_the_model_does_not_run_for_a_reply_that_cannot_be(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16)],
        "half",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, ["n", 2])],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "half.onnx")
    selection = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",))
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"))
    engine.load(tmp_path / "half.onnx")
    service = LocalService(engine, name="test", version="1")
    rows = {"x": np.ones((1, 2), np.float32)}
    with pytest.raises(InvalidInputError, match="'y' is FP16"):
        await service.infer(InferenceRequest("half", rows, parameters=TYPED))
    (told,) = service.statistics("half", "")
    assert told.execution_count == 0
    assert (await service.infer(InferenceRequest("half", rows))).outputs["y"].dtype == np.float16
    await service.drain()
    service.close()
