"""How often a server copies a tensor on its way in, through the engine, and out: counted, by front.

python -m tests.runtime.serving.copies    # writes benchmarks/results/copies.md

The server runs in a process in which the C library's memcpy counts what it copies (`count_copies.c`); that takes a C compiler and
Linux. The client is this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.runtime.serving.clients import Call, Client, GrpcClient, HttpClient
from tests.runtime.serving.fronts import FRONTS, why_not

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "benchmarks" / "results" / "copies.md"
SOURCE = Path(__file__).with_name("count_copies.c")
SHAPE = (1, 3, 224, 224)
REQUESTS = 21
TRANSPORTS = (*FRONTS, "REST")


@dataclass(frozen=True, slots=True)
class Copies:
    """Times that the tensor's bytes were copied, medians over the requests."""

    into: float
    """From the socket's first buffer to the array that the model is given."""
    engine: float
    """By the model itself, which gives back what it gets."""
    out: float
    """From the engine's array to what the socket is given."""


def why_not_counted() -> str | None:
    """None where copies can be counted."""
    if sys.platform != "linux":
        return "copies are counted on Linux alone"
    return None if shutil.which("cc") else "copies are counted with a C compiler, and there is no cc"


def count(front: str, scratch: Path) -> Copies:
    """Sends the same tensor again and again to a server of its own."""
    value = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    with _counting_server("asyncio" if front == "REST" else front, scratch) as server:
        client: Client = HttpClient(server.http, binary=True) if front == "REST" else GrpcClient(server.grpc)
        told = []
        for _ in range(REQUESTS):
            answer = client.send(Call("identity", {"x": value}))
            assert answer.status == "OK", answer
            assert np.array_equal(answer.outputs["y"], value)
            told.append([each / value.nbytes for each in server.last()])
        client.close()  # type: ignore[attr-defined]
    return Copies(*(statistics.median(column) for column in zip(*told[1:], strict=True)))


def table(found: dict[str, Copies]) -> str:
    """The kept figures, as Markdown."""
    size = int(np.prod(SHAPE)) * 4
    lines = [
        "# Copies of a tensor",
        "",
        f"A model that gives back its input, float32 {list(SHAPE)}, {size:,} bytes, one request at a time: how often the server",
        "copies the tensor in its own memory. Counted by a memcpy that counts, in pieces of 1 KiB and more",
        f"(`python -m tests.runtime.serving.copies` wrote this); medians of {REQUESTS - 1} requests. What the kernel copies",
        "to and from the socket comes on top, once each way.",
        "",
        "| front | in | engine | out |",
        "|---|---|---|---|",
        *(f"| {front} | {each.into:.2f} | {each.engine:.2f} | {each.out:.2f} |" for front, each in found.items()),
        "",
        "REST, in: out of uvloop's read buffer, and to where the body is gathered (`rest/gathering`); that is from the second",
        "request with the same head on. The first, and those with a deadline in their head, go by uvicorn and are copied oftener.",
        "Out: none.",
        "",
        "gRPC on asyncio, in: out of uvloop's read buffer, and to one `bytes`, of which the tensor is a view, from the second",
        "request with the same head on (`wire/grpc_repeats`). Out: none.",
        "",
        "The other fronts, in: both are theirs. grpcio 1.85 makes `bytes` of every slice that came, and joins those",
        "(`ReceiveMessageOperation.un_c` in `_cygrpc/operation.pyx.pxi`); the native front gathers the body, and makes",
        "`bytes` of it. The tensor is a view of that.",
        "Out: the engine's array into the reply's `bytes`, and those into memory of the front's own (grpcio:",
        "`grpc_slice_from_copied_buffer` in `SendMessageOperation.c`). Both take one `bytes` and nothing else; grpcio has an open",
        "change for its own (grpc/grpc, pull request 42193).",
        "",
    ]
    return "\n".join(lines)


class _Server:
    """The counting server, seen from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        at = self._read()
        self.grpc, self.http = str(at["grpc"]), str(at["http"])

    def last(self) -> list[int]:
        """Bytes copied on the last request's way in, in the engine and out; once everything of it is sent."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return list(self._read()["bytes"])

    def _read(self) -> dict[str, object] | dict[str, list[int]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the counting server ended"
        told: dict[str, object] = json.loads(line)
        return told


@contextmanager
def _counting_server(front: str, scratch: Path) -> Iterator[_Server]:
    library = scratch / "count_copies.so"
    flags = ["-O2", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE)], check=True)
    folder = scratch / "repository" / "identity" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_identity())
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runtime.serving.copies", front, str(scratch), str(library)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "EDGEWARD_HOME": str(scratch / "home")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Server(process)
    finally:
        process.kill()
        process.communicate()


def _identity() -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *SHAPE[1:]]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(model.SerializeToString())


def _serve(front: str, scratch: Path, library: Path) -> None:
    """The server's process: answers requests, and for each line on stdin says what the last request's way took."""
    import asyncio

    from runtime.engine.engine import Engine
    from runtime.engine.settings import EngineSettings
    from runtime.serving.asking import Answer, Withdraw
    from runtime.serving.local_service import LocalService
    from runtime.serving.server import Listening, run, serve
    from runtime.serving.settings import ServerSettings
    from runtime.wire.values import InferenceRequest, InferenceResponse
    from tests.runtime.serving.real import SELECTION

    counter = ctypes.CDLL(str(library)).count_copies_bytes
    counter.restype = ctypes.c_ulonglong

    class Counting(LocalService):
        """Looks at the counter where a request is decoded, and where its answer is."""

        before = entered = left = 0

        def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
            self.entered = counter()

            def told(response: InferenceResponse | None, error: BaseException | None) -> None:
                self.left = counter()
                answer(response, error)

            return super().ask(request, told)

    async def body() -> None:
        engine = Engine(EngineSettings(SELECTION, repository=scratch / "repository", home=scratch / "home"))
        engine.load("identity")
        service = Counting(engine)
        loop = asyncio.get_running_loop()

        def answer() -> None:
            sys.stdin.readline()
            told = (service.entered - service.before, service.left - service.entered, counter() - service.left)
            print(json.dumps({"bytes": told}), flush=True)
            service.before = counter()

        def started(at: Listening) -> None:
            print(json.dumps({"grpc": str(at.grpc), "http": str(at.http)}), flush=True)
            service.before = counter()

        loop.add_reader(sys.stdin.fileno(), answer)
        await serve(service, ServerSettings(grpc_port=0, http_port=0, grpc_front=front), on_started=started)

    run(body())


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        fronts = [front for front in TRANSPORTS if why_not(front) is None]
        measured = {}
        for each in fronts:
            with tempfile.TemporaryDirectory() as folder:
                measured[each] = count(each, Path(folder))
        TABLE.write_text(table(measured), encoding="utf-8")
        print(TABLE.read_text(encoding="utf-8"), end="")
