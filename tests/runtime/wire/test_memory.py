"""Parameters of a tensor in shared memory, and the bytes of the tensors beside it."""

import numpy as np
import pytest

from protos import inference
from runtime.errors import InvalidInputError, UnsupportedError
from runtime.wire.grpc_codec import decode_request
from runtime.wire.memory import OFFSET, REGION, SIZE, refuse_memory, take_slot
from runtime.wire.values import Parameter

HALF = np.array([0.5], np.float32).tobytes()


class Slot:
    """Two floats, wherever they are."""

    def __init__(self, region: str, offset: int, size_bytes: int) -> None:
        self.region, self.offset, self.size_bytes = region, offset, size_bytes

    def read(self) -> bytes:
        return HALF * (self.size_bytes // len(HALF))

    def write(self, raw: bytes | memoryview) -> None:
        raise AssertionError


class Memory:
    """Regions of any name."""

    def slot(self, region: str, offset: int, size_bytes: int) -> Slot:
        return Slot(region, offset, size_bytes)


def test_a_tensor_in_memory_leaves_only_its_other_parameters() -> None:
    parameters: dict[str, Parameter] = {REGION: "r", SIZE: 8, OFFSET: 4, "binary_data": True}
    slot = take_slot("input 'x'", parameters, Memory())
    assert slot is not None
    assert (slot.region, slot.offset, slot.size_bytes) == ("r", 4, 8)
    assert parameters == {"binary_data": True}
    assert take_slot("input 'x'", parameters, Memory()) is None


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({SIZE: 8}, f"'{SIZE}' without '{REGION}'"),
        ({REGION: "", SIZE: 8}, "is ''; expected a region's name"),
        ({REGION: 3, SIZE: 8}, "is 3; expected a region's name"),
        ({REGION: "r"}, f"'{SIZE}' of input 'x' is None; expected a number of bytes"),
        ({REGION: "r", SIZE: -1}, "is -1; expected a number of bytes"),
        ({REGION: "r", SIZE: 8, OFFSET: -4}, f"'{OFFSET}' of input 'x' is -4"),
        ({REGION: "r", SIZE: True}, "is True; expected a number of bytes"),
        ({REGION: "r", SIZE: 8, "shared_memory_ofset": 4}, "'shared_memory_ofset' of input 'x' means nothing"),
    ],
)
def test_parameters_that_do_not_hold_together(parameters: dict[str, Parameter], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        take_slot("input 'x'", parameters, Memory())


def test_without_memory_and_without_a_tensor_it_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="reads no shared memory"):
        take_slot("input 'x'", {REGION: "r", SIZE: 8}, None)
    with pytest.raises(InvalidInputError, match="of the request means nothing"):
        refuse_memory("the request", {REGION: "r"})


def beside(*raw: bytes) -> inference.ModelInferRequest:
    """Input 'a' in shared memory, input 'b' raw."""
    message = inference.ModelInferRequest(model_name="m", raw_input_contents=raw)
    for name in ("a", "b"):
        message.inputs.add(name=name, datatype="FP32", shape=[1])
    message.inputs[0].parameters[REGION].string_param = "r"
    message.inputs[0].parameters[SIZE].int64_param = 4
    return message


def test_tensors_in_memory_take_no_raw_contents() -> None:
    inputs = decode_request(beside(HALF), memory=Memory()).inputs
    assert {name: value.tolist() for name, value in inputs.items()} == {"a": [0.5], "b": [0.5]}
    for wrong in (beside(HALF, HALF), beside(HALF, HALF, HALF)):
        with pytest.raises(InvalidInputError, match="entries for 1 inputs"):
            decode_request(wrong, memory=Memory())
