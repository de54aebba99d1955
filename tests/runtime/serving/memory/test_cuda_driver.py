"""What is made of the driver's answers: why there is no CUDA, its words, and the thread's context left as it was."""

import sys
from types import ModuleType

import pytest

from runtime.errors import UnsupportedError
from runtime.serving.memory.cuda_driver import HANDLE_BYTES, CudaError, open_driver, start
from tests.runtime.serving.fake_cuda import FakeCuda, Result


def test_without_the_binding_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UnsupportedError, match=r"cuda-bindings is not installed \(pip install 'edgeward\[cuda\]'\)"):
        open_driver()


@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (FakeCuda(starts=RuntimeError("no libcuda.so.1")), r"driver is not installed \(no libcuda.so.1\)"),
        (FakeCuda(starts=Result.CUDA_ERROR_NO_DEVICE), "sees no NVIDIA GPU .*no CUDA-capable device"),
        (FakeCuda(starts=Result.CUDA_ERROR_UNKNOWN), r"driver does not start \(CUDA_ERROR_UNKNOWN\)"),
        (FakeCuda(devices=0), "sees no NVIDIA GPU"),
    ],
)
def test_what_is_missing_is_named(cuda: FakeCuda, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        start(cuda)


def test_the_real_binding_has_every_call_and_tells_that_there_is_no_driver() -> None:
    api = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    assert api.CU_IPC_HANDLE_SIZE == HANDLE_BYTES
    names = [name for name in vars(FakeCuda) if name.startswith(("cu", "CU"))]
    assert [name for name in names if not hasattr(api, name)] == []
    flags = (api.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, api.CUstream_flags.CU_STREAM_NON_BLOCKING)
    assert [int(flag) for flag in flags] == [1, 1]
    try:
        assert start(api).device_count > 0
    except UnsupportedError as error:
        assert any(words in str(error) for words in ("driver is not installed", "sees no NVIDIA GPU"))  # noqa: PT017


def test_memory_is_read_and_written_and_the_context_is_left_as_it_was() -> None:
    cuda = FakeCuda(devices=2)
    theirs = cuda.export(100)
    theirs.put(b"abcdef")
    cuda.contexts.append("an engine's")
    driver = start(cuda)
    memory = driver.open(theirs.handle, 1)
    assert (memory.device, memory.size_bytes, driver.device_count) == (1, 100, 2)
    driver.write(memory, 1, memoryview(b"XY"))
    driver.write(memory, 100, b"")
    assert bytes(driver.read(memory, 0, 6)) == b"aXYdef"
    assert bytes(driver.read(memory, 100, 0)) == b""
    driver.close(memory)
    with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE: invalid argument"):
        driver.close(memory)
    assert (cuda.mappings, cuda.contexts) == (0, ["an engine's"])


@pytest.mark.parametrize(
    "call", ["cuMemGetAddressRange", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuStreamCreate", "cuDeviceGet"]
)
def test_a_call_that_fails_leaves_nothing_open(call: str) -> None:
    cuda = FakeCuda()
    theirs = cuda.export(100)
    driver = start(cuda)
    cuda.fails[call] = Result.CUDA_ERROR_ILLEGAL_ADDRESS

    def use() -> None:
        memory = driver.open(theirs.handle, 0)
        try:
            driver.read(memory, 0, 10)
        finally:
            driver.close(memory)

    with pytest.raises(CudaError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        use()
    assert (cuda.mappings, cuda.contexts) == (0, [])
