"""MLServer with a custom runtime around ONNX Runtime. Runs in MLServer's environment: `python mlserver_server.py MODEL HTTP GRPC`

As its documentation says under "Custom inference runtimes": a class with `load` and `predict`, named in `model-settings.json`, and
`mlserver start` on the folder. Its own defaults but for `debug` (off, as in production) and the pool of worker processes, which is
off because one row of this model costs less than handing it to another process.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import mkdtemp

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class DigitsRuntime(MLModel):
    """The custom runtime."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        (probabilities,) = self.session.run(None, feed)
        output = NumpyCodec.encode_output(name=self.session.get_outputs()[0].name, payload=probabilities)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])


def main(model: str, http_port: int, grpc_port: int) -> None:
    """Writes the two settings files and becomes `mlserver start`."""
    folder = Path(mkdtemp(prefix="peer-mlserver-"))
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_endpoint": None,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    implementation = "mlserver_server.DigitsRuntime"
    model_settings = {
        "name": Path(model).stem,
        "implementation": implementation,
        "parameters": {"uri": model, "version": "1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(model_settings))
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", str(folder)])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
