"""System shared memory: regions, their bounds and their end; tensors in and out of them on both protocols."""

import os
import uuid
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import InvalidInputError, PayloadTooLargeError, UnsupportedError
from runtime.serving.memory.regions import MAX_REGIONS
from runtime.serving.memory.shared_memory import SharedMemory, why_off
from runtime.serving.memory.system_memory import FOLDER
from tests.runtime.serving.real import FIRST, SECOND, serving_models
from tests.runtime.serving.threaded import Threaded

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"{FOLDER} is absent: shared memory is served on Linux alone"
)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    made = SharedMemory(max_tensor_bytes=1000)
    yield made
    made.close()


@pytest.fixture
def key() -> Iterator[str]:
    region = shared_memory.SharedMemory(f"edgeward-test-{uuid.uuid4().hex}", create=True, size=256)
    region.buf[:4] = b"abcd"
    yield region.name
    region.close()
    region.unlink()


def test_a_region_is_registered_read_written_and_forgotten(memory: SharedMemory, key: str) -> None:
    memory.register_system("in", f"/{key.lstrip('/')}", 1, 100)
    (region,) = memory.system_status()
    assert (region.name, region.offset, region.size_bytes) == ("in", 1, 100)
    slot = memory.slot("in", 1, 2)
    assert slot.read() == b"cd"
    slot.write(b"XY")
    assert (FOLDER / key).read_bytes()[:4] == b"abXY"
    memory.unregister_system("in")
    memory.unregister_system("in")
    assert memory.system_status() == []
    assert slot.read() == b"XY", "a request under way keeps its region"


@pytest.mark.parametrize(
    ("name", "given", "offset", "size", "words"),
    [
        ("r", "../etc/passwd", 0, 1, "no key of shared memory"),
        ("r", "/../../etc/passwd", 0, 1, "no key of shared memory"),
        ("r", "/etc/passwd", 0, 1, "no key of shared memory"),
        ("r", "..", 0, 1, "no key of shared memory"),
        ("r", "", 0, 1, "no key of shared memory"),
        ("r", "a\0b", 0, 1, "no key of shared memory"),
        ("r", "x" * 300, 0, 1, "no key of shared memory"),
        ("r", "nobody-made-this", 0, 1, "there is no shared memory object 'nobody-made-this'"),
        ("r", "KEY", 0, 257, "ends at byte 257, but the object"),
        ("r", "KEY", 256, 1, "ends at byte 257, but the object"),
        ("r", "KEY", 2**64 - 1, 1, "but the object"),
        ("r", "KEY", 1, 2**64 - 1, "but the object"),
        ("r", "KEY", 0, 0, "has 0 bytes"),
        ("r", "KEY", -1, 1, "has offset -1"),
        ("", "KEY", 0, 1, "cannot name a region"),
        ("a/b", "KEY", 0, 1, "cannot name a region"),
    ],
)
def test_a_wrong_registration_is_refused(
    memory: SharedMemory, key: str, name: str, given: str, offset: int, size: int, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        memory.register_system(name, given.replace("KEY", key), offset, size)
    assert memory.system_status() == []


def test_a_link_and_a_folder_are_no_regions(memory: SharedMemory, tmp_path: Path) -> None:
    name = f"edgeward-test-{uuid.uuid4().hex}"
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 100)
    link, folder = FOLDER / name, FOLDER / f"{name}.d"
    link.symlink_to(secret)
    folder.mkdir()
    try:
        for key in (link.name, folder.name):
            with pytest.raises(InvalidInputError, match="cannot be opened"):
                memory.register_system("r", key, 0, 10)
    finally:
        link.unlink()
        folder.rmdir()


def test_names_are_taken_once_and_regions_are_counted(memory: SharedMemory, key: str) -> None:
    memory.register_system("r", key, 0, 10)
    with pytest.raises(InvalidInputError, match="registered already"):
        memory.register_system("r", key, 0, 10)
    for count in range(1, MAX_REGIONS):
        memory.register_system(str(count), key, 0, 10)
    with pytest.raises(InvalidInputError, match="no more are kept"):
        memory.register_system("one more", key, 0, 10)
    before = len(list(Path("/proc/self/fd").iterdir()))
    memory.unregister_system()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - MAX_REGIONS, "every region's file is closed"


def test_slots_stay_inside_their_region(memory: SharedMemory, key: str) -> None:
    memory.register_system("r", key, 0, 100)
    for offset, size in ((0, 101), (100, 1), (2**63, 1), (1, 2**63)):
        with pytest.raises(InvalidInputError, match="are asked for in region 'r', which has 100 bytes"):
            memory.slot("r", offset, size)
    with pytest.raises(InvalidInputError, match="region 'other' is not registered; registered: 'r'"):
        memory.slot("other", 0, 1)


def test_a_region_that_shrank_is_an_error_and_not_the_end(memory: SharedMemory, key: str) -> None:
    memory.register_system("r", key, 0, 256)
    os.truncate(FOLDER / key, 8)
    with pytest.raises(InvalidInputError, match="gave 8 of 16 bytes"):
        memory.slot("r", 0, 16).read()


def test_the_cap_on_requests_holds_here_too(key: str) -> None:
    memory = SharedMemory(max_tensor_bytes=16)
    memory.register_system("r", key, 0, 256)
    with pytest.raises(PayloadTooLargeError, match="at most 16"):
        memory.slot("r", 0, 17)
    memory.unregister_system()


def test_it_is_for_clients_of_this_machine_alone() -> None:
    assert why_off(True, True, "127.0.0.1") is None
    assert "--no-shared-memory" in str(why_off(False, True, "127.0.0.1"))
    off = why_off(True, False, "0.0.0.0")
    assert off is not None
    assert "listens on 0.0.0.0" in off
    memory = SharedMemory(16, off)
    for work in (memory.system_status, memory.unregister_system, lambda: memory.register_system("a", "b", 0, 1)):
        with pytest.raises(UnsupportedError, match="shared memory is off"):
            work()


# ----------------------------------------------------------- Triton's clients


def modules() -> list[Any]:
    return [
        pytest.importorskip(f"tritonclient.{kind}", reason="tritonclient is not installed") for kind in ("grpc", "http")
    ]


@pytest.fixture(params=["grpc", "http"])
def triton(request: pytest.FixtureRequest, real: Threaded) -> Iterator[tuple[Any, Any]]:
    module = dict(zip(("grpc", "http"), modules(), strict=True))[request.param]
    with module.InferenceServerClient(real.grpc if request.param == "grpc" else real.http) as client:
        yield module, client
        client.unregister_system_shared_memory()


def statuses(client: Any) -> dict[str, int]:
    told = client.get_system_shared_memory_status()
    if isinstance(told, list):
        return {region["name"]: region["byte_size"] for region in told}
    return {name: region.byte_size for name, region in told.regions.items()}


def test_tritons_clients_pass_tensors_in_shared_memory(triton: tuple[Any, Any]) -> None:
    from tritonclient.utils import shared_memory as shm

    module, client = triton
    assert "system_shared_memory" in str(client.get_server_metadata())
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    size = FIRST.nbytes
    name = uuid.uuid4().hex
    regions = {way: shm.create_shared_memory_region(way, f"{name}-{way}", 2 * size) for way in ("input", "output")}
    try:
        shm.set_shared_memory_region(regions["input"], [FIRST, SECOND])
        for way in regions:
            client.register_system_shared_memory(way, f"{name}-{way}", 2 * size)
        assert statuses(client) == {"input": 2 * size, "output": 2 * size}
        inputs = [module.InferInput(f"INPUT{at}", [1, 16], "INT32") for at in (0, 1)]
        outputs = [module.InferRequestedOutput(f"OUTPUT{at}") for at in (0, 1)]
        for at in (0, 1):
            inputs[at].set_shared_memory("input", size, offset=at * size)
            outputs[at].set_shared_memory("output", size, offset=at * size)
        result = client.infer("simple", inputs, outputs=outputs)
        for at, wanted in enumerate((FIRST + SECOND, FIRST - SECOND)):
            told = result.get_output(f"OUTPUT{at}")
            shape = told["shape"] if isinstance(told, dict) else list(told.shape)
            seen = shm.get_contents_as_numpy(regions["output"], np.int32, shape, offset=at * size)
            assert np.array_equal(seen, wanted)
        # One input and one output in the message, the others in shared memory.
        inputs[0] = module.InferInput("INPUT0", [1, 16], "INT32")
        inputs[0].set_data_from_numpy(FIRST * 2)
        outputs[0] = module.InferRequestedOutput("OUTPUT0")
        result = client.infer("simple", inputs, outputs=outputs)
        assert np.array_equal(result.as_numpy("OUTPUT0"), FIRST * 2 + SECOND)
        assert np.array_equal(shm.get_contents_as_numpy(regions["output"], np.int32, [1, 16], size), FIRST * 2 - SECOND)

        for wrong, words in (
            (("nowhere", size, 0), "region 'nowhere' is not registered"),
            (("output", size - 1, 0), "OUTPUT0' takes 64 bytes; 63 were given"),
            (("output", size, 2 * size - 1), "which has 128 bytes"),
        ):
            outputs[0].set_shared_memory(*wrong[:2], offset=wrong[2])
            with pytest.raises(module.InferenceServerException, match=words):
                client.infer("simple", inputs, outputs=outputs)
        inputs[1].set_shared_memory("input", size - 4)
        with pytest.raises(module.InferenceServerException, match="has 60 bytes, but INT32"):
            client.infer("simple", inputs)
    finally:
        client.unregister_system_shared_memory("input")
        assert "input" not in statuses(client)
        for handle in regions.values():
            shm.destroy_shared_memory_region(handle)


def test_a_server_that_others_reach_has_none(tmp_path: Path) -> None:
    grpc, http = modules()
    with serving_models(tmp_path, host="0.0.0.0") as server:
        ports = (server.at.grpc.port, server.at.http.port)
        for module, port in zip((grpc, http), ports, strict=True):
            with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
                assert "system_shared_memory" not in str(client.get_server_metadata())
                with pytest.raises(module.InferenceServerException, match="this server listens on 0.0.0.0"):
                    client.register_system_shared_memory("r", "k", 10)
