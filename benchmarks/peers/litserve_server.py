"""LitServe with ONNX Runtime. Runs in LitServe's environment: `python litserve_server.py MODEL HTTP GRPC`

As its documentation says: a `LitAPI` with `setup` and `predict`, one worker. It has no gRPC.
"""

import sys

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):
    """The API; `setup` runs in the worker."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["image"], dtype=np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"image": x})[0]

    def encode_response(self, output: np.ndarray) -> dict:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(sys.argv[1]), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
