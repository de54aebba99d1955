"""CUDA shared memory on a real GPU: a server in a process of its own, and device memory that this process made."""

import base64
import ctypes
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import pytest

from protos import inference
from runtime.serving.memory.system_memory import FOLDER
from tests.programs import Program, started
from tests.runtime.serving.clients import HttpClient, grpc_call

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is absent: shared memory is served on Linux alone"),
]

ROWS = 64
IMAGES = np.random.default_rng(7).random((ROWS, 1, 8, 8), dtype=np.float32)
IN_BYTES, OUT_BYTES = IMAGES.nbytes, ROWS * 10 * 4
SHIFT = 256
"""Where the tensors begin in their regions."""
MIB = 1 << 20


class Exported:
    """Memory of this process on device 0."""

    def __init__(self, cudart: Any, size_bytes: int) -> None:
        self._cudart = cudart
        self.size_bytes = size_bytes
        self.address = self._do(cudart.cudaMalloc(size_bytes))
        handle = self._do(cudart.cudaIpcGetMemHandle(self.address))
        self.handle = ctypes.string_at(handle.getPtr(), 64)

    def put(self, raw: bytes, at: int = 0) -> None:
        source = np.frombuffer(raw, np.uint8)
        to_device = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do(self._cudart.cudaMemcpy(int(self.address) + at, source.ctypes.data, source.nbytes, to_device))

    def content(self) -> bytes:
        target = np.empty(self.size_bytes, np.uint8)
        to_host = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do(self._cudart.cudaMemcpy(target.ctypes.data, self.address, self.size_bytes, to_host))
        return target.tobytes()

    def free(self) -> None:
        self._do(self._cudart.cudaFree(self.address))

    def _do(self, answer: Any) -> Any:
        status, *values = answer
        assert status == self._cudart.cudaError_t.cudaSuccess, self._cudart.cudaGetErrorString(status)
        return values[0] if values else None


class Client(Protocol):
    def register(self, name: str, handle: bytes, device: int, size_bytes: int) -> str: ...

    def regions(self) -> dict[str, tuple[int, int]]: ...

    def unregister(self) -> None: ...

    def infer(self, raw: bytes | None) -> bytes | str: ...

    def close(self) -> None: ...


class Grpc:
    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)

    def register(self, name: str, handle: bytes, device: int, size_bytes: int) -> str:
        """Empty where it was taken, else why not."""
        message = inference.CudaSharedMemoryRegisterRequest(
            name=name, raw_handle=handle, device_id=device, byte_size=size_bytes
        )
        try:
            grpc_call(self.channel, "CudaSharedMemoryRegister", message)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return ""

    def regions(self) -> dict[str, tuple[int, int]]:
        told = grpc_call(self.channel, "CudaSharedMemoryStatus", inference.CudaSharedMemoryStatusRequest()).regions
        return {name: (region.device_id, region.byte_size) for name, region in told.items()}

    def unregister(self) -> None:
        grpc_call(self.channel, "CudaSharedMemoryUnregister", inference.CudaSharedMemoryUnregisterRequest())

    def close(self) -> None:
        self.channel.close()

    def infer(self, raw: bytes | None) -> bytes | str:
        """The output's bytes where the input came with the message; else both lie in regions, and nothing comes back."""
        message = inference.ModelInferRequest(model_name="digits")
        image = message.inputs.add(name="image", datatype="FP32", shape=IMAGES.shape)
        wanted = message.outputs.add(name="probabilities")
        if raw is None:
            for tensor, region, size in ((image, "in", IN_BYTES), (wanted, "out", OUT_BYTES)):
                tensor.parameters["shared_memory_region"].string_param = region
                tensor.parameters["shared_memory_byte_size"].int64_param = size
                tensor.parameters["shared_memory_offset"].int64_param = SHIFT
        else:
            message.raw_input_contents.append(raw)
        try:
            return b"".join(grpc_call(self.channel, "ModelInfer", message).raw_output_contents)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


class Rest:
    def __init__(self, address: str) -> None:
        self.client = HttpClient(address.removeprefix("http://"), binary=True)

    def register(self, name: str, handle: bytes, device: int, size_bytes: int) -> str:
        given = {"raw_handle": {"b64": base64.b64encode(handle).decode()}, "device_id": device, "byte_size": size_bytes}
        path = f"/v2/cudasharedmemory/region/{name}/register"
        status, _, data = self.client.request("POST", path, json.dumps(given).encode())
        return "" if status == 200 else f"{status}: {json.loads(data)['error']}"

    def regions(self) -> dict[str, tuple[int, int]]:
        told = json.loads(self.client.request("GET", "/v2/cudasharedmemory/status")[2])
        return {region["name"]: (region["device_id"], region["byte_size"]) for region in told}

    def unregister(self) -> None:
        assert self.client.request("POST", "/v2/cudasharedmemory/unregister")[0] == 200

    def close(self) -> None:
        self.client.close()

    def infer(self, raw: bytes | None) -> bytes | str:
        image: dict[str, Any] = {"name": "image", "datatype": "FP32", "shape": IMAGES.shape}
        wanted: dict[str, Any] = {"name": "probabilities"}
        if raw is None:
            for tensor, region, size in ((image, "in", IN_BYTES), (wanted, "out", OUT_BYTES)):
                where = {"region": region, "byte_size": size, "offset": SHIFT}
                tensor["parameters"] = {f"shared_memory_{word}": value for word, value in where.items()}
        else:
            image["parameters"] = {"binary_data_size": len(raw)}
            wanted["parameters"] = {"binary_data": True}
        head = json.dumps({"inputs": [image], "outputs": [wanted]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        status, told, data = self.client.request("POST", "/v2/models/digits/infer", head + (raw or b""), headers)
        if status != 200:
            return f"{status}: {json.loads(data)['error']}"
        return data[int(told.get("Inference-Header-Content-Length", len(data))) :]


@pytest.fixture(scope="module")
def cudart() -> Any:
    api = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    status, count = api.cudaGetDeviceCount()
    if status != api.cudaError_t.cudaSuccess or not count:
        pytest.skip(f"no GPU that CUDA can use: {status!r}")
    return api


@pytest.fixture(scope="module")
def program(cudart: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with started(tmp_path_factory.mktemp("home"), "serve", "digits", "--grpc-port", "0", "--http-port", "0") as made:
        yield made


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, program: Program) -> Iterator[Client]:
    made: Client = Grpc(program.grpc) if request.param == "grpc" else Rest(program.http)
    yield made
    made.unregister()
    assert made.regions() == {}
    made.close()


def test_tensors_come_from_the_gpu_and_go_there(cudart: Any, client: Client) -> None:
    expected = client.infer(IMAGES.tobytes())
    assert isinstance(expected, bytes), expected
    assert len(expected) == OUT_BYTES
    given, wanted = Exported(cudart, SHIFT + IN_BYTES), Exported(cudart, SHIFT + OUT_BYTES + 100)
    given.put(IMAGES.tobytes(), SHIFT)
    wanted.put(b"\7" * wanted.size_bytes)
    for _ in range(2):  # what was unregistered may be registered again
        assert client.register("in", given.handle, 0, given.size_bytes) == ""
        assert client.register("out", wanted.handle, 0, wanted.size_bytes) == ""
        assert client.regions() == {"in": (0, given.size_bytes), "out": (0, wanted.size_bytes)}
        assert client.infer(None) == b""
        seen = wanted.content()
        assert (seen[:SHIFT], seen[SHIFT + OUT_BYTES :]) == (b"\7" * SHIFT, b"\7" * 100), "nothing else is written"
        assert np.allclose(np.frombuffer(seen[SHIFT:-100], "<f4"), np.frombuffer(expected, "<f4"), rtol=0, atol=1e-6)
        wanted.put(bytes(OUT_BYTES), SHIFT)
        client.unregister()
    given.free()
    wanted.free()
    assert "is not registered" in str(client.infer(None))


def test_what_the_driver_refuses_is_the_clients_error_and_the_server_stays_up(cudart: Any, client: Client) -> None:
    theirs = Exported(cudart, 2 * MIB)
    for handle, device, size, words in (
        (bytes(64), 0, 1, "cannot be opened on device 0: CUDA_ERROR_"),
        (b"\xff" * 64, 0, 1, "cannot be opened on device 0: CUDA_ERROR_"),
        (theirs.handle[:63], 0, 1, "has 63 bytes; expected the 64"),
        (theirs.handle, 99, 1, "is on device 99; this server sees"),
        (theirs.handle, 0, 2 * MIB + 1, f"the driver says that its allocation has {2 * MIB}"),
        (theirs.handle, 0, 1 << 62, f"the driver says that its allocation has {2 * MIB}"),
    ):
        told = client.register("r", handle, device, size)
        assert words in told
        assert told.startswith(("INVALID_ARGUMENT", "400"))
    assert client.register("r", theirs.handle, 0, 2 * MIB) == ""
    client.unregister()
    theirs.free()
    assert len(client.infer(IMAGES.tobytes())) == OUT_BYTES


def test_tritons_own_utilities(cudart: Any, program: Program) -> None:
    module = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    shm: Any = pytest.importorskip("tritonclient.utils.cuda_shared_memory", reason="tritonclient lacks its CUDA part")
    given = shm.create_shared_memory_region("in", IN_BYTES, 0)
    wanted = shm.create_shared_memory_region("out", OUT_BYTES, 0)
    shm.set_shared_memory_region(given, [IMAGES])
    with module.InferenceServerClient(program.grpc) as client:
        assert "cuda_shared_memory" in client.get_server_metadata().extensions
        client.register_cuda_shared_memory("in", shm.get_raw_handle(given), 0, IN_BYTES)
        client.register_cuda_shared_memory("out", shm.get_raw_handle(wanted), 0, OUT_BYTES)
        image, probabilities = (
            module.InferInput("image", IMAGES.shape, "FP32"),
            module.InferRequestedOutput("probabilities"),
        )
        image.set_shared_memory("in", IN_BYTES)
        probabilities.set_shared_memory("out", OUT_BYTES)
        client.infer("digits", [image], outputs=[probabilities])
        client.unregister_cuda_shared_memory()
        image.set_data_from_numpy(IMAGES)
        expected = client.infer("digits", [image]).as_numpy("probabilities")
    assert np.allclose(shm.get_contents_as_numpy(wanted, np.float32, [ROWS, 10]), expected, rtol=0, atol=1e-6)
    for region in (given, wanted):
        shm.destroy_shared_memory_region(region)


def test_a_server_from_which_the_gpu_is_hidden_says_so(
    cudart: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    with started(tmp_path, "serve", "digits", "--grpc-port", "0", "--http-port", "0") as blind:
        client = Grpc(blind.grpc)
        told = client.register("r", bytes(64), 0, 1)
        client.close()
    assert told.startswith("UNIMPLEMENTED: CUDA shared memory is off: this process sees no NVIDIA GPU")
