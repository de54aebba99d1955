"""Triton's own clients behind the same face as `clients`; importable only where tritonclient is installed."""

from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from runtime.tensors import datatype_of
from tests.runtime.serving.clients import Call, Outcome


def takes_bfloat16() -> bool:
    """Since r26.06; before, bfloat16 was a truncated float32 there."""
    return triton_to_np_dtype("BF16") != np.float32


class _TritonClient:
    def __init__(self, module: Any, address: str) -> None:
        self.module = module
        self.client = module.InferenceServerClient(address)

    def send(self, call: Call) -> Outcome:
        inputs = []
        for name, value in call.inputs.items():
            tensor = self.module.InferInput(name, list(value.shape), datatype_of(value.dtype))
            tensor.set_data_from_numpy(value)
            inputs.append(tensor)
        outputs = [self.module.InferRequestedOutput(name) for name in call.outputs] or None
        try:
            result = self.client.infer(
                call.model,
                inputs,
                model_version=call.version,
                outputs=outputs,
                request_id=call.id,
                timeout=call.parameters.get("timeout"),
                parameters={name: value for name, value in call.parameters.items() if name != "timeout"} or None,
            )
        except InferenceServerException as error:
            status = error.status() or ""
            return Outcome(int(status) if self.is_http else status.removeprefix("StatusCode."), text=error.message())
        return self.outcome(result)

    def close(self) -> None:
        self.client.close()


class TritonGrpc(_TritonClient):
    is_http = False

    def __init__(self, address: str) -> None:
        super().__init__(tritonclient.grpc, address)

    def outcome(self, result: Any) -> Outcome:
        reply = result.get_response()
        outputs = {tensor.name: result.as_numpy(tensor.name) for tensor in reply.outputs}
        parameters = {name: getattr(p, p.WhichOneof("parameter_choice")) for name, p in reply.parameters.items()}
        return Outcome("OK", outputs, reply.model_name, reply.model_version, reply.id, parameters)


class TritonHttp(_TritonClient):
    is_http = True

    def __init__(self, address: str) -> None:
        super().__init__(tritonclient.http, address)

    def outcome(self, result: Any) -> Outcome:
        reply = result.get_response()
        outputs = {tensor["name"]: result.as_numpy(tensor["name"]) for tensor in reply["outputs"]}
        return Outcome(
            "OK",
            outputs,
            reply["model_name"],
            reply["model_version"],
            reply.get("id", ""),
            reply.get("parameters", {}),
        )
