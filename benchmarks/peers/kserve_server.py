"""KServe's Python server with a custom model around ONNX Runtime. Runs in KServe's environment: `python kserve_server.py MODEL HTTP GRPC`

As its documentation says under "Custom predictor": a `Model` with `load` and `predict`, given to `ModelServer().start`. Its own
defaults but for latency logging (off: a line for every request).
"""

import sys
from pathlib import Path

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Digits(Model):
    """The custom model."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self.path = path
        self.load()

    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        self.ready = True
        return self.ready

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        feed = {each.name: each.as_numpy() for each in payload.inputs}
        (probabilities,) = self.session.run(None, feed)
        name = self.session.get_outputs()[0].name
        output = InferOutput(name=name, shape=list(probabilities.shape), datatype="FP32")
        output.set_data_from_numpy(probabilities, binary_data=True)
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    server = ModelServer(http_port=int(sys.argv[2]), grpc_port=int(sys.argv[3]), enable_latency_logging=False)
    server.start([Digits(Path(sys.argv[1]).stem, sys.argv[1])])
