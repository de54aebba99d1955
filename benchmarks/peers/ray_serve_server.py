"""Ray Serve with ONNX Runtime. Runs in Ray's environment: `python ray_serve_server.py MODEL HTTP GRPC`

As its documentation says: a class with `@serve.deployment`, one replica, behind its HTTP proxy.
"""

import signal
import sys
import threading

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Digits:
    """The deployment."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> dict:
        image = np.array((await request.json())["image"], dtype=np.float32)
        (probabilities,) = self.session.run(None, {"image": image})
        return {"probabilities": probabilities.tolist()}


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    ray.init(include_dashboard=False, configure_logging=False, num_cpus=2)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Digits.bind(sys.argv[1]), route_prefix="/predict")
    stop.wait()
    serve.shutdown()
    ray.shutdown()
