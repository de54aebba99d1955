"""CUDA shared memory on a stand-in for the driver: what holds for regions on a device; tensors in and out on both protocols.

On a real GPU: `test_cuda_processes`.
"""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protos import inference
from runtime.errors import InvalidInputError, PayloadTooLargeError, UnsupportedError
from runtime.serving.memory.regions import MAX_REGIONS
from runtime.serving.memory.shared_memory import SharedMemory
from runtime.serving.memory.system_memory import FOLDER
from tests.runtime.serving.clients import HttpClient, grpc_call
from tests.runtime.serving.fake_cuda import Allocation, FakeCuda, Result, fake_cuda
from tests.runtime.serving.real import FIRST, SECOND, serving_models
from tests.runtime.serving.threaded import Threaded

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"{FOLDER} is absent: shared memory is served on Linux alone"
)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with fake_cuda() as made:
        yield made


@pytest.fixture
async def memory(cuda: FakeCuda) -> AsyncIterator[SharedMemory]:
    made = SharedMemory(max_tensor_bytes=1000)
    yield made
    await made.unregister_cuda()
    made.close()
    assert cuda.mappings == 0, "every mapping is closed"


async def test_a_region_is_registered_read_written_and_closed(memory: SharedMemory, cuda: FakeCuda) -> None:
    theirs = cuda.export(256)
    theirs.put(b"abcd")
    await memory.register_cuda("in", theirs.handle, 0, 100)
    (region,) = memory.cuda_status()
    assert (region.name, region.device, region.size_bytes) == ("in", 0, 100)
    assert memory.cuda_status("in") == [region]
    slot = memory.slot("in", 1, 2)
    assert (slot.region, slot.offset, slot.size_bytes, bytes(slot.read())) == ("in", 1, 2, b"bc")
    slot.write(b"XY")
    assert theirs.content[:4] == b"aXYd"
    await memory.unregister_cuda("in")
    await memory.unregister_cuda("in")
    assert memory.cuda_status() == []
    assert (theirs.mappings, bytes(slot.read())) == (1, b"XY"), "a request under way keeps its region"
    del slot
    await memory.unregister_cuda()
    assert theirs.mappings == 0, "closed when nobody uses it, before unregistering is answered"


@pytest.mark.parametrize(
    ("name", "handle", "device", "size", "words"),
    [
        ("r", b"", 0, 1, "has 0 bytes; expected the 64"),
        ("r", b"x" * 63, 0, 1, "has 63 bytes; expected the 64"),
        ("r", b"x" * 64, 0, 1, "cannot be opened on device 0: CUDA_ERROR_INVALID_VALUE: invalid argument; .* another process"),
        ("r", None, 1, 1, "is on device 1; this server sees 1"),
        ("r", None, -1, 1, "is on device -1"),
        ("r", None, 2**62, 1, "is on device"),
        ("r", None, 0, 257, "has 257 bytes, but the driver says that its allocation has 256"),
        ("r", None, 0, 2**64 - 1, "but the driver says that its allocation has 256"),
        ("r", None, 0, 0, "has 0 bytes; expected 1 or more"),
        ("", None, 0, 1, "cannot name a region"),
        ("a/b", None, 0, 1, "cannot name a region"),
    ],
)  # fmt: skip
async def test_a_wrong_registration_is_refused(
    memory: SharedMemory, cuda: FakeCuda, name: str, handle: bytes | None, device: int, size: int, words: str
) -> None:
    theirs = cuda.export(256)
    with pytest.raises(InvalidInputError, match=words):
        await memory.register_cuda(name, theirs.handle if handle is None else handle, device, size)
    assert (memory.cuda_status(), theirs.mappings) == ([], 0)
    await memory.register_cuda("r", theirs.handle, 0, 256)


async def test_a_driver_that_does_not_tell_the_size_is_not_trusted(memory: SharedMemory, cuda: FakeCuda) -> None:
    theirs = cuda.export(256)
    cuda.fails["cuMemGetAddressRange"] = Result.CUDA_ERROR_UNKNOWN
    with pytest.raises(InvalidInputError, match="CUDA_ERROR_UNKNOWN"):
        await memory.register_cuda("r", theirs.handle, 0, 1)
    assert theirs.mappings == 0


async def test_names_are_taken_once_by_either_kind_and_regions_are_counted(
    memory: SharedMemory, cuda: FakeCuda
) -> None:
    theirs = cuda.export(256)
    key = f"edgeward-test-{uuid.uuid4().hex}"
    system = shared_memory.SharedMemory(key, create=True, size=16)
    try:
        memory.register_system("s", key, 0, 16)
        await memory.register_cuda("c", theirs.handle, 0, 10)
        for name in ("s", "c"):
            with pytest.raises(InvalidInputError, match="registered already"):
                await memory.register_cuda(name, theirs.handle, 0, 10)
            with pytest.raises(InvalidInputError, match="registered already"):
                memory.register_system(name, key, 0, 16)
        with pytest.raises(InvalidInputError, match="'s' is system shared memory, and was asked for as CUDA"):
            memory.cuda_status("s")
        with pytest.raises(InvalidInputError, match="'s' is system shared memory, and was asked for as CUDA"):
            await memory.unregister_cuda("s")
        with pytest.raises(InvalidInputError, match="'c' is CUDA shared memory, and was asked for as system"):
            memory.unregister_system("c")
        memory.unregister_system()
        assert [region.name for region in memory.cuda_status()] == ["c"], "each kind is forgotten by itself"
        for count in range(1, MAX_REGIONS):
            await memory.register_cuda(str(count), theirs.handle, 0, 10)
        assert theirs.mappings == MAX_REGIONS, "one handle may stand behind several names"
        with pytest.raises(InvalidInputError, match="no more are kept"):
            await memory.register_cuda("one more", theirs.handle, 0, 10)
        with pytest.raises(InvalidInputError, match="no more are kept"):
            memory.register_system("one more", key, 0, 16)
        await memory.unregister_cuda()
        assert theirs.mappings == 0
    finally:
        system.close()
        system.unlink()


async def test_slots_stay_inside_their_region_and_the_cap(memory: SharedMemory, cuda: FakeCuda) -> None:
    await memory.register_cuda("r", cuda.export(4000).handle, 0, 2000)
    for offset, size in ((0, 2001), (2000, 1), (2**63, 1), (1, 2**63)):
        with pytest.raises(InvalidInputError, match="are asked for in region 'r', which has 2000 bytes"):
            memory.slot("r", offset, size)
    with pytest.raises(PayloadTooLargeError, match="at most 1000"):
        memory.slot("r", 0, 1001)
    with pytest.raises(InvalidInputError, match="region 'other' is not registered; registered: 'r'"):
        memory.slot("other", 0, 1)


async def test_a_name_is_kept_while_its_region_is_opened(memory: SharedMemory, cuda: FakeCuda) -> None:
    theirs = cuda.export(256)
    await memory.require_cuda()
    cuda.on_open.clear()
    first, given_up = (
        asyncio.create_task(memory.register_cuda(name, theirs.handle, 0, 10)) for name in ("r", "given up")
    )
    await asyncio.sleep(0)
    with pytest.raises(InvalidInputError, match="registered already"):
        await memory.register_cuda("r", theirs.handle, 0, 10)
    given_up.cancel()
    cuda.on_open.set()
    await first
    await asyncio.wait([given_up])
    assert [region.name for region in memory.cuda_status()] == ["r"]
    await memory.unregister_cuda()
    assert theirs.mappings == 0


async def test_a_device_that_fails_is_an_error_of_that_request(memory: SharedMemory, cuda: FakeCuda) -> None:
    theirs = cuda.export(256)
    await memory.register_cuda("r", theirs.handle, 0, 256)
    cuda.fails = {
        "cuMemcpyDtoHAsync": Result.CUDA_ERROR_ILLEGAL_ADDRESS,
        "cuMemcpyHtoDAsync": Result.CUDA_ERROR_UNKNOWN,
    }
    with pytest.raises(InvalidInputError, match="'r' cannot be read: CUDA_ERROR_ILLEGAL_ADDRESS"):
        memory.slot("r", 0, 16).read()
    with pytest.raises(InvalidInputError, match="'r' cannot be written: CUDA_ERROR_UNKNOWN"):
        memory.slot("r", 0, 16).write(b"x")
    cuda.fails = {}
    assert len(memory.slot("r", 0, 16).read()) == 16


async def test_a_mapping_that_does_not_close_is_said(
    memory: SharedMemory, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    await memory.register_cuda("r", cuda.export(256).handle, 0, 256)
    cuda.fails["cuIpcCloseMemHandle"] = Result.CUDA_ERROR_UNKNOWN
    await memory.unregister_cuda("r")
    assert "stays mapped on device 0: CUDA_ERROR_UNKNOWN" in caplog.text


async def test_where_there_is_no_cuda_only_registering_is_refused() -> None:
    with fake_cuda(FakeCuda(starts=Result.CUDA_ERROR_NO_DEVICE)):
        memory = SharedMemory(16)
        for _ in range(2):
            with pytest.raises(UnsupportedError, match="CUDA shared memory is off: this process sees no NVIDIA GPU"):
                await memory.register_cuda("r", b"x" * 64, 0, 1)
        await memory.unregister_cuda()
        assert memory.cuda_status() == []
        memory.close()
    off = SharedMemory(16, "this server listens on 0.0.0.0")
    with pytest.raises(UnsupportedError, match="listens on 0.0.0.0"):
        await off.register_cuda("r", b"x" * 64, 0, 1)
    with pytest.raises(UnsupportedError, match="listens on 0.0.0.0"):
        await off.unregister_cuda()
    with pytest.raises(UnsupportedError, match="listens on 0.0.0.0"):
        off.cuda_status()
    off.close()


# ----------------------------------------------------------- both transports


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeCuda, Threaded]]:
    with fake_cuda() as cuda, serving_models(tmp_path_factory.mktemp("served")) as server:
        yield cuda, server


@pytest.fixture(params=["grpc", "http"])
def triton(request: pytest.FixtureRequest, served: tuple[FakeCuda, Threaded]) -> Iterator[tuple[FakeCuda, Any, Any]]:
    module = pytest.importorskip(f"tritonclient.{request.param}", reason="tritonclient is not installed")
    cuda, server = served
    with module.InferenceServerClient(server.grpc if request.param == "grpc" else server.http) as client:
        yield cuda, module, client
        client.unregister_cuda_shared_memory()
        assert cuda.mappings == 0


def b64(theirs: Allocation) -> bytes:
    return base64.b64encode(theirs.handle)


def statuses(client: Any, name: str = "") -> dict[str, tuple[int, int]]:
    told = client.get_cuda_shared_memory_status(name)
    if isinstance(told, list):
        return {region["name"]: (region["device_id"], region["byte_size"]) for region in told}
    return {name: (region.device_id, region.byte_size) for name, region in told.regions.items()}


def test_tritons_clients_pass_tensors_in_device_memory(triton: tuple[FakeCuda, Any, Any]) -> None:
    cuda, module, client = triton
    assert "cuda_shared_memory" in str(client.get_server_metadata())
    size = FIRST.nbytes
    given, wanted = cuda.export(2 * size), cuda.export(2 * size)
    given.put(FIRST.tobytes() + SECOND.tobytes())
    client.register_cuda_shared_memory("input", b64(given), 0, 2 * size)
    client.register_cuda_shared_memory("output", b64(wanted), 0, 2 * size)
    assert statuses(client) == {"input": (0, 2 * size), "output": (0, 2 * size)}
    assert statuses(client, "input") == {"input": (0, 2 * size)}
    inputs = [module.InferInput(f"INPUT{at}", [1, 16], "INT32") for at in (0, 1)]
    outputs = [module.InferRequestedOutput(f"OUTPUT{at}") for at in (0, 1)]
    for at in (0, 1):
        inputs[at].set_shared_memory("input", size, offset=at * size)
        outputs[at].set_shared_memory("output", size, offset=at * size)
    client.infer("simple", inputs, outputs=outputs)
    seen = np.frombuffer(wanted.content, np.int32).reshape(2, 1, 16)
    assert np.array_equal(seen, [FIRST + SECOND, FIRST - SECOND])

    # One input and one output in the message, the others on the device.
    inputs[0] = module.InferInput("INPUT0", [1, 16], "INT32")
    inputs[0].set_data_from_numpy(FIRST * 2)
    outputs[0] = module.InferRequestedOutput("OUTPUT0")
    result = client.infer("simple", inputs, outputs=outputs)
    assert np.array_equal(result.as_numpy("OUTPUT0"), FIRST * 2 + SECOND)
    assert np.array_equal(np.frombuffer(wanted.content, np.int32)[16:], (FIRST * 2 - SECOND)[0])

    for wrong, words in (
        (("nowhere", size, 0), "region 'nowhere' is not registered"),
        (("output", size - 1, 0), "OUTPUT0' takes 64 bytes; 63 were given"),
        (("output", size, size + 1), "which has 128 bytes"),
    ):
        outputs[0].set_shared_memory(*wrong[:2], offset=wrong[2])
        with pytest.raises(module.InferenceServerException, match=words):
            client.infer("simple", inputs, outputs=outputs)
    with pytest.raises(
        module.InferenceServerException, match="'input' is CUDA shared memory, and was asked for as sys"
    ):
        client.unregister_system_shared_memory("input")
    client.unregister_cuda_shared_memory("input")
    assert (list(statuses(client)), given.mappings) == (["output"], 0)
    with pytest.raises(module.InferenceServerException, match="region 'input' is not registered"):
        client.infer("simple", inputs)


def test_tritons_clients_hear_what_is_wrong_with_a_region(triton: tuple[FakeCuda, Any, Any]) -> None:
    cuda, module, client = triton
    theirs = cuda.export(64)
    for arguments, words in (
        (("r", base64.b64encode(b"x" * 64), 0, 64), "INVALID_VALUE: invalid argument; it must come from cudaIpcGetMem"),
        (("r", base64.b64encode(b"x"), 0, 64), "has 1 bytes; expected the 64"),
        (("r", b64(theirs), 7, 64), "is on device 7; this server sees 1"),
        (("r", b64(theirs), 0, 65), "the driver says that its allocation has 64"),
    ):
        with pytest.raises(module.InferenceServerException, match=words):
            client.register_cuda_shared_memory(*arguments)
    client.register_cuda_shared_memory("r", b64(theirs), 0, 64)
    with pytest.raises(module.InferenceServerException, match="registered already"):
        client.register_cuda_shared_memory("r", b64(theirs), 0, 64)
    with pytest.raises(module.InferenceServerException, match="'nobody' is not registered"):
        client.get_cuda_shared_memory_status("nobody")
    assert theirs.mappings == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON"),
        (b"{}", "`device_id` is None and `byte_size` None"),
        (b'{"device_id": 0.5, "byte_size": 1}', "expected numbers"),
        (b'{"device_id": 0, "byte_size": 1}', "`raw_handle` is None"),
        (b'{"device_id": 0, "byte_size": 1, "raw_handle": "aGFuZGxl"}', "`raw_handle` is 'aGFuZGxl'"),
        (b'{"device_id": 0, "byte_size": 1, "raw_handle": {}}', "expected {"),
        (b'{"device_id": 0, "byte_size": 1, "raw_handle": {"b64": 1}}', "expected {"),
        (b'{"device_id": 0, "byte_size": 1, "raw_handle": {"b64": "!"}}', "expected {"),
        (b'{"device_id": 0, "byte_size": 1, "raw_handle": {"b64": "\\u00e9"}}', "expected {"),
        (b'{"device_id": 0, "byte_size": 1, "raw_handle": {"b64": ""}}', "has 0 bytes; expected the 64"),
    ],
)
def test_a_wrong_body_is_refused(served: tuple[FakeCuda, Threaded], body: bytes, words: str) -> None:
    client = HttpClient(served[1].http, binary=False)
    status, _, data = client.request("POST", "/v2/cudasharedmemory/region/r/register", body)
    client.close()
    assert status == 400
    assert words in json.loads(data)["error"]


def test_a_server_without_cuda_says_which_part_is_missing(tmp_path: Path) -> None:
    missing = FakeCuda(starts=RuntimeError("no libcuda.so.1"))
    message = inference.CudaSharedMemoryRegisterRequest(name="r", raw_handle=b"x" * 64, byte_size=1)
    words = "CUDA shared memory is off: NVIDIA's driver is not installed (no libcuda.so.1); use system shared memory"
    with fake_cuda(missing), serving_models(tmp_path) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            metadata = grpc_call(channel, "ServerMetadata", inference.ServerMetadataRequest())
            assert "system_shared_memory" in metadata.extensions
            assert "cuda_shared_memory" not in metadata.extensions
            with pytest.raises(grpc.RpcError) as caught:
                grpc_call(channel, "CudaSharedMemoryRegister", message)
            assert caught.value.code().name == "UNIMPLEMENTED"
            assert caught.value.details().startswith(words)
            assert not grpc_call(channel, "CudaSharedMemoryStatus", inference.CudaSharedMemoryStatusRequest()).regions
            grpc_call(channel, "CudaSharedMemoryUnregister", inference.CudaSharedMemoryUnregisterRequest())
        client = HttpClient(server.http, binary=False)
        status, _, data = client.request("POST", "/v2/cudasharedmemory/region/r/register", b"{}")
        assert (status, json.loads(data)["error"].startswith(words)) == (501, True)
        assert client.request("GET", "/v2/cudasharedmemory/status")[2] == b"[]"
        assert client.request("POST", "/v2/cudasharedmemory/unregister", b"")[0] == 200
        client.close()
