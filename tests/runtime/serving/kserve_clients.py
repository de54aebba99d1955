"""KServe's REST and gRPC clients, unmodified, on Triton's model 'simple'. For an interpreter that has kserve, and nothing of ours:

python tests/runtime/serving/kserve_clients.py GRPC_ADDRESS HTTP_ADDRESS
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferResponse  # noqa: F401  (its own messages are registered)

FIRST = np.arange(16, dtype=np.int32).reshape(1, 16)
SECOND = np.full_like(FIRST, 3)


def request(is_binary: bool) -> InferRequest:
    inputs = [InferInput(name, list(FIRST.shape), "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor, value in zip(inputs, (FIRST, SECOND), strict=True):
        tensor.set_data_from_numpy(value, binary_data=is_binary)
    return InferRequest(model_name="simple", infer_inputs=inputs)


def check(response: object, how: str) -> None:
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    np.testing.assert_array_equal(outputs["OUTPUT0"], FIRST + SECOND)
    np.testing.assert_array_equal(outputs["OUTPUT1"], FIRST - SECOND)
    print(f"{how}: infer")


async def over_rest(http: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=20))
    base = f"http://{http}"
    assert await client.is_server_live(base)
    assert await client.is_server_ready(base)
    assert await client.is_model_ready(base, "simple")
    print("REST: server live, server ready, model ready")
    for is_binary in (True, False):
        check(await client.infer(base, request(is_binary), model_name="simple"), f"REST, binary {is_binary}")
    await client.close()


async def over_grpc(grpc: str) -> None:
    async with InferenceGRPCClient(grpc, retries=0, timeout=20) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        print("gRPC: server live, server ready, model ready")
        for is_binary in (True, False):
            check(await client.infer(request(is_binary)), f"gRPC, raw {is_binary}")


async def main(grpc: str, http: str) -> None:
    await over_rest(http)
    await over_grpc(grpc)
    print("passed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
