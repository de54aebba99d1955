"""PyTriton with ONNX Runtime. Runs in PyTriton's environment: `python pytriton_server.py MODEL HTTP GRPC`

As its documentation says: a function with `@batch`, bound to Triton, whose gRPC and HTTP it answers; dynamic batching is on by
default there.
"""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(model: str, http_port: int, grpc_port: int) -> None:
    """Serves until it is ended."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @batch
    def infer(image: np.ndarray) -> list:
        return session.run(None, {"image": image})

    config = TritonConfig(http_address="127.0.0.1", http_port=http_port, grpc_port=grpc_port, metrics_port=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="digits",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.float32, shape=(1, 8, 8))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
