"""Triton's own example clients, unmodified, against `edgeward serve`: which pass, and what is said to the others.

They are not part of this project: `example_clients` says where they are taken from, and keeps what came of them. The folder of
models that is asked for here has simple.onnx, simple_string.onnx, simple_int8.onnx, simple_sequence.onnx and
simple_dyna_sequence.onnx as Triton ships them; the other models that the examples ask for are made here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from runtime.serving.sockets import Endpoint, listen
from tests.runtime.serving.real import put_model

ROOT = Path(__file__).resolve().parents[3]
GIVEN = ("simple", "simple_string", "simple_int8", "simple_sequence", "simple_dyna_sequence")
PATIENCE_S = 60

# Not a matter of protocol: what an example needs that is not here, and why.
NOT_RUN: Mapping[str, str] = {
    "ensemble_image_client.py": "needs the ensemble of preprocessing and a network that Triton's documentation builds",
    "grpc_image_client.py": "needs an image classification network and a picture",
    "image_client.py": "needs an image classification network and a picture",
    "simple_grpc_cudashm_client.py": "needs CUDA on the client's side",
    "simple_http_cudashm_client.py": "needs CUDA on the client's side",
}
# What is not as in Triton here, on purpose: these do not pass.
REFUSED: Mapping[str, str] = {
    "simple_grpc_custom_repeat.py": "asks a decoupled model, which answers one request many times; models here answer once",
    "simple_grpc_model_control.py": "passes up to its last check, which wants a bad file name answered INTERNAL; here it is "
    "INVALID_ARGUMENT (the example has a note that this would be right)",
}
# It counts the models of the repository.
MODELS_WANTED: Mapping[str, int] = {"simple_http_model_control.py": 7}
# Both protocols, where an example takes one as an option.
VARIANTS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "reuse_infer_objects_client.py": (("-i", "grpc"), ("-i", "http")),
    "memory_growth_test.py": (("-i", "grpc", "-r", "200"), ("-i", "http", "-r", "200")),
}
# It has no option for the address.
FIXED_PORTS = ("memory_growth_test.py",)


@dataclass(frozen=True, slots=True)
class Server:
    """A running `edgeward serve`."""

    grpc: str
    http: str


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one example."""

    example: str
    is_passed: bool
    text: str
    """Its last words, where it did not pass."""


def examples(folder: Path) -> list[str]:
    """The examples' file names in order; those in `NOT_RUN` too."""
    found = sorted(file.name for file in folder.glob("*.py"))
    return sorted(found, key=lambda name: name.endswith("_model_control.py"))  # last: they unload what others ask


@contextmanager
def serving_triton_models(scratch: Path, models: Path, count: int = 8, front: str = "auto") -> Iterator[Server]:
    """Serves the `count` of 7 or 8 models that the examples ask for; on Triton's own ports where they are free."""
    repository = scratch / "repository"
    for name in GIVEN:
        (repository / name / "1").mkdir(parents=True)
        shutil.copyfile(models / f"{name}.onnx", repository / name / "1" / "model.onnx")
    put_model(repository, "simple_identity", 1, content=_identity(TensorProto.STRING, ["batch", 16]))
    put_model(repository, "custom_identity_int32", 1, content=_identity(TensorProto.INT32, ["batch", "n"]))
    if count == 8:
        put_model(repository, "densenet_onnx", 1, content=_densenet())
    ports = [str(_free_or(port)) for port in (8001, 8000)]
    command = [sys.executable, str(ROOT / "edgeward.py"), "serve", "--model-repository", str(repository)]
    process = subprocess.Popen(
        [
            *command,
            "--grpc-port",
            ports[0],
            "--http-port",
            ports[1],
            "--grpc-front",
            front,
            "--allow-model-upload",
            "--server-name",
            "triton",
            "--json",
        ],
        env={**os.environ, "EDGEWARD_HOME": str(scratch / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server ended with code {process.wait()}"
        at = json.loads(line)
        yield Server(at["grpc"], at["http"].removeprefix("http://"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def why_not_run(example: str, server: Server) -> str | None:
    """None where the example can be run against the server."""
    if example in FIXED_PORTS and (server.grpc, server.http) != ("127.0.0.1:8001", "127.0.0.1:8000"):
        return "has no option for the address, and ports 8000 and 8001 are taken on this machine"
    return NOT_RUN.get(example)


def run(folder: Path, example: str, server: Server) -> Told:
    """Runs it in each of its variants; it passed when all of them did, by its own judgement."""
    for options in VARIANTS.get(example, ((),)):
        is_http = "http" in options or "_http_" in example
        url = () if example in FIXED_PORTS else ("-u", server.http if is_http else server.grpc)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", example, *options, *url],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode != 0:
            return Told(example, False, _last_words(done.stdout + done.stderr))
    return Told(example, True, "")


def verdicts(folder: Path, models: Path) -> dict[str, str]:
    """By example: "passes", or in words why not; from servers that are started for it."""
    found: dict[str, str] = {}
    for count in (8, 7):
        with tempfile.TemporaryDirectory() as scratch, serving_triton_models(Path(scratch), models, count) as server:
            for example in examples(folder):
                if MODELS_WANTED.get(example, 8) != count:
                    continue
                if (why_not := why_not_run(example, server)) is not None:
                    found[example] = f"not run: {why_not}"
                    continue
                told = run(folder, example, server)
                why = REFUSED.get(example, told.text)
                found[example] = "passes" if told.is_passed else f"does not pass: {why}"
    return dict(sorted(found.items()))


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if re.search(r"failed|error|expect|\[StatusCode|wants", line, re.IGNORECASE)]
    return " ".join((said or lines or ["nothing"])[-1].split()).replace("|", "/")[:240]


def _identity(kind: int, shape: Sequence[str | int]) -> bytes:
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("INPUT0", "OUTPUT0")]
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    return _bytes(helper.make_graph([node], "identity", ends[:1], ends[1:]))


def _densenet() -> bytes:
    """The signature of the network that `grpc_client` asks, around a mean: what comes out means nothing."""
    into = helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [3, 224, 224])
    out = helper.make_tensor_value_info("fc6_1", TensorProto.FLOAT, [3, 1, 1])
    node = helper.make_node("ReduceMean", ["data_0"], ["fc6_1"], axes=[1, 2], keepdims=1)
    return _bytes(helper.make_graph([node], "densenet", [into], [out]))


def _bytes(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(model.SerializeToString())


def _free_or(port: int) -> int:
    try:
        listen(Endpoint("127.0.0.1", port), "any").close()
    except Exception:
        return 0
    return port
