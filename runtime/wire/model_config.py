"""Triton's ModelConfig from a `ModelDescription`, as a message and as JSON.

Only the part that Edgeward knows: name, platform, versions, batching, device, inputs, outputs, parameters. In a config a
batched model's dims leave the batch out, and no dims at all are written as `[1]` reshaped to `[]`, for Triton allows no
empty dims.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from protos import inference
from runtime.tensors import TensorSpec
from runtime.wire.values import ModelDescription, Parameter, ServingPlan


def encode_config(description: ModelDescription) -> inference.ModelConfigResponse:
    """The reply of ModelConfig."""
    config = inference.ModelConfig(
        name=description.name,
        platform=description.platform,
        backend=_backend(description),
        max_batch_size=description.max_batch_size,
    )
    for spec in description.inputs:
        dims, is_scalar = _dims(spec, description.max_batch_size)
        wanted = config.input.add(name=spec.name, data_type=data_type(spec.datatype), dims=dims)
        if is_scalar:
            wanted.reshape.SetInParent()
    for spec in description.outputs:
        dims, is_scalar = _dims(spec, description.max_batch_size)
        given = config.output.add(name=spec.name, data_type=data_type(spec.datatype), dims=dims)
        if is_scalar:
            given.reshape.SetInParent()
    plan = description.plan
    if plan.specific:
        config.version_policy.specific.versions.extend(plan.specific)
    elif plan.latest is not None:
        config.version_policy.latest.num_versions = plan.latest
    else:
        config.version_policy.all.SetInParent()
    if plan.max_queue_delay_us is not None:
        config.dynamic_batching.max_queue_delay_microseconds = plan.max_queue_delay_us
        config.dynamic_batching.preferred_batch_size.extend(plan.preferred_batch_sizes)
    config.instance_group.add(name=description.name, kind=_kind(plan), count=plan.instances)
    for name, value in description.parameters.items():
        config.parameters[name].string_value = _as_text(value)
    return inference.ModelConfigResponse(config=config)


def config_json(description: ModelDescription) -> dict[str, Any]:
    """The same in the spelling of Triton's `GET /v2/models/NAME/config`: proto names, enums by name."""
    plan = description.plan
    batching = {
        "preferred_batch_size": list(plan.preferred_batch_sizes),
        "max_queue_delay_microseconds": plan.max_queue_delay_us,
    }
    return {
        "name": description.name,
        "platform": description.platform,
        "backend": _backend(description),
        "version_policy": _policy_json(plan),
        "max_batch_size": description.max_batch_size,
        **({} if plan.max_queue_delay_us is None else {"dynamic_batching": batching}),
        "instance_group": [{"name": description.name, "kind": _kind(plan), "count": plan.instances, "gpus": []}],
        "input": [
            {
                **_tensor_json(spec, description.max_batch_size),
                "format": "FORMAT_NONE",
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
            }
            for spec in description.inputs
        ],
        "output": [
            {
                **_tensor_json(spec, description.max_batch_size),
                "label_filename": "",
                "is_shape_tensor": False,
            }
            for spec in description.outputs
        ],
        "parameters": {name: {"string_value": _as_text(value)} for name, value in description.parameters.items()},
    }


def _policy_json(plan: ServingPlan) -> dict[str, Any]:
    if plan.specific:
        return {"specific": {"versions": list(plan.specific)}}
    return {"all": {}} if plan.latest is None else {"latest": {"num_versions": plan.latest}}


def _kind(plan: ServingPlan) -> Literal["KIND_CPU", "KIND_GPU", "KIND_MODEL"]:
    """KIND_MODEL, "where the model says", for devices that Triton has no word for."""
    return "KIND_CPU" if plan.device == "cpu" else "KIND_GPU" if plan.device == "cuda" else "KIND_MODEL"


def data_type(datatype: str) -> inference.DataType:
    """ModelConfig's name of a datatype: TYPE_FP32 for FP32, TYPE_STRING for BYTES."""
    number: inference.DataType = inference.DataType.Value(_type_name(datatype))
    return number


def _type_name(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _tensor_json(spec: TensorSpec, max_batch_size: int) -> dict[str, Any]:
    dims, is_scalar = _dims(spec, max_batch_size)
    tensor: dict[str, Any] = {"name": spec.name, "data_type": _type_name(spec.datatype), "dims": dims}
    if is_scalar:
        tensor["reshape"] = {"shape": []}
    return tensor


def _dims(spec: TensorSpec, max_batch_size: int) -> tuple[list[int], bool]:
    """The dims, and whether they stand for none at all."""
    dims = list(spec.shape[1:] if max_batch_size > 0 and spec.is_batched else spec.shape)
    return (dims, False) if dims else ([1], True)


def _backend(description: ModelDescription) -> str:
    """The engine in the platform's name: "onnxruntime" of "onnxruntime_onnx"."""
    return description.platform.rpartition("_")[0] or description.platform


def _as_text(value: Parameter) -> str:
    return value if isinstance(value, str) else json.dumps(value)
