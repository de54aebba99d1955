"""BentoML with ONNX Runtime. Runs in BentoML's environment: `python bentoml_server.py MODEL HTTP GRPC`

As its documentation says: a class with `@bentoml.service` and `@bentoml.api`, served by `bentoml serve`. Its gRPC is not part of it
any more.
"""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime

MODEL_VARIABLE = "PEER_MODEL"


@bentoml.service(workers=1)
class Digits:
    """The service."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.environ[MODEL_VARIABLE]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @bentoml.api(route="/predict")
    def predict(self, image: list) -> dict:
        (probabilities,) = self.session.run(None, {"image": np.array(image, dtype=np.float32)})
        return {"probabilities": probabilities.tolist()}


if __name__ == "__main__":
    os.environ[MODEL_VARIABLE] = sys.argv[1]
    os.environ["BENTOML_DO_NOT_TRACK"] = "1"
    os.chdir(Path(__file__).resolve().parent)
    program = str(Path(sys.executable).parent / "bentoml")
    os.execv(program, [program, "serve", "bentoml_server:Digits", "--host", "127.0.0.1", "--port", sys.argv[2]])
