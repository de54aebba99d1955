"""Options and libraries of the providers for NVIDIA GPUs; what needs one is in `test_gpu`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runtime.backends import onnxruntime as onnxruntime_module
from runtime.backends import onnxruntime_cuda
from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.onnxruntime_cuda import cuda_options, load_libraries, tensorrt_options, why_no_tensorrt
from runtime.backends.onnxruntime_session import OnnxRuntimeSession
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, WrongUseError

PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class FakeOrt(ModuleType):
    """An `onnxruntime` with the providers of NVIDIA's GPUs: remembers what it is asked, computes nothing."""

    __version__ = "1.31.1"

    class SessionOptions:
        def add_session_config_entry(self, key: str, value: str) -> None:
            pass

    class RunOptions:
        def add_run_config_entry(self, key: str, value: str) -> None:
            pass

    class ExecutionMode:
        ORT_SEQUENTIAL = 0

    class GraphOptimizationLevel:
        ORT_ENABLE_ALL = 99

    OrtValue = object

    def __init__(self, failure: str | None = None, says: str = "", left_out: bool = False) -> None:
        super().__init__("onnxruntime")
        self.events: list[str] = []
        self.asked: Any = None
        self._failure, self._says, self._left_out = failure, says, left_out

    def disable_telemetry_events(self) -> None:
        pass

    def get_available_providers(self) -> list[str]:
        return PROVIDERS

    def preload_dlls(self, directory: str | None) -> None:
        self.events.append("libraries")
        print(self._says)

    def InferenceSession(self, path: str, options: object, providers: Any, enable_fallback: int) -> Any:  # noqa: N802
        self.events.append("session")
        self.asked = providers
        if self._failure is not None:
            raise RuntimeError(self._failure)
        used = ["CPUExecutionProvider"] if self._left_out else [name for name, _ in providers]

        class Session:
            def get_inputs(self) -> list[object]:
                return []

            def get_outputs(self) -> list[object]:
                return []

            def get_providers(self) -> list[str]:
                return used

            def run(self, *_: object) -> list[object]:
                return []

        return Session()


@pytest.fixture
def opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, affine_file: Callable[[Format], Path]
) -> Callable[..., OnnxRuntimeSession]:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))

    def open_(ort: FakeOrt, backend: OnnxRuntimeBackend, **extra: str) -> OnnxRuntimeSession:
        monkeypatch.setitem(sys.modules, "onnxruntime", ort)
        return backend.open(affine_file(Format.ONNX), RunOptions(2, extra))

    return open_


@pytest.mark.parametrize("backend", [OnnxRuntimeBackend.cuda(), OnnxRuntimeBackend.tensorrt()], ids=lambda b: b.name)
def test_libraries_are_loaded_before_the_session_once_and_say_nothing(
    backend: OnnxRuntimeBackend,
    opened: Callable[..., OnnxRuntimeSession],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "_wheel_folders", list)
    ort = FakeOrt(says="Failed to load libnvrtc.so.13")
    opened(ort, backend)
    opened(ort, backend)
    assert ort.events == ["libraries", "session", "session"]
    assert capsys.readouterr().out == "", "an agent's or a trial's standard output is not for this"


def test_the_processor_loads_none(opened: Callable[..., OnnxRuntimeSession]) -> None:
    ort = FakeOrt()
    opened(ort, OnnxRuntimeBackend.cpu())
    assert ort.events == ["session"]


def test_a_library_that_is_missing_is_named(opened: Callable[..., OnnxRuntimeSession]) -> None:
    ort = FakeOrt(says="Failed to load libcudnn.so.9: cannot open shared object file", left_out=True)
    with pytest.raises(
        BackendUnavailableError, match=r"left out CUDAExecutionProvider.*\[cuda,cudnn\].*libcudnn\.so\.9"
    ):
        opened(ort, OnnxRuntimeBackend.cuda())


def test_a_provider_that_cannot_be_loaded_is_not_the_models_fault(opened: Callable[..., OnnxRuntimeSession]) -> None:
    failure = "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open it"
    with pytest.raises(BackendUnavailableError, match=r"cannot use its device: .*libcublasLt\.so\.13"):
        opened(FakeOrt(failure=failure), OnnxRuntimeBackend.cuda())


def test_a_loader_that_fails_is_told_and_costs_nothing_else() -> None:
    class Broken(FakeOrt):
        def preload_dlls(self, directory: str | None) -> None:
            raise RuntimeError("no directory nvidia")

    assert load_libraries(Broken()) == "no directory nvidia"
    assert load_libraries(ModuleType("onnxruntime")) == ""


def test_wheels_of_an_environment_below_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cu13", "cudnn", "nccl"):
        (tmp_path / "nvidia" / name / "lib").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked: list[str | None] = []

    class Beside(FakeOrt):
        def preload_dlls(self, directory: str | None) -> None:
            asked.append(directory)
            if not any("cu13" in (folder or "") for folder in asked):
                print("Failed to load libcublas.so.13")  # of cuDNN it says nothing

    assert load_libraries(Beside()) == ""
    assert asked == [None, *(str(tmp_path / "nvidia" / name / "lib") for name in ("cu13", "cudnn", "nccl"))]


def test_cuda_options_by_their_names(opened: Callable[..., OnnxRuntimeSession]) -> None:
    ort = FakeOrt()
    opened(ort, OnnxRuntimeBackend.cuda(), nhwc="1", graph="1", search="exhaustive")
    assert ort.asked[0] == (
        "CUDAExecutionProvider",
        {"prefer_nhwc": "1", "enable_cuda_graph": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"},
    )
    assert cuda_options(RunOptions(), Path("m.onnx")) == {
        "prefer_nhwc": "0",
        "enable_cuda_graph": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
    }


@pytest.mark.parametrize(
    ("backend", "extra"),
    [
        (OnnxRuntimeBackend.cuda(), {"fp16": "1"}),
        (OnnxRuntimeBackend.cuda(), {"nhwc": "yes"}),
        (OnnxRuntimeBackend.tensorrt(), {"nhwc": "1"}),
        (OnnxRuntimeBackend.cpu(), {"graph": "1"}),
    ],
)
def test_other_options_are_refused(
    backend: OnnxRuntimeBackend, extra: dict[str, str], opened: Callable[..., OnnxRuntimeSession]
) -> None:
    ort = FakeOrt()
    with pytest.raises(WrongUseError, match=next(iter(extra))):
        opened(ort, backend, **extra)
    assert ort.events == []


def test_engines_are_kept_by_contents_inside_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path / "home"))
    folders = []
    for name, contents in (("a.onnx", b"one"), ("b.onnx", b"two"), ("c.onnx", b"one")):
        (tmp_path / name).write_bytes(contents)
        found = tensorrt_options(RunOptions(1, {"fp16": "1"}), tmp_path / name)
        assert (found["trt_fp16_enable"], found["trt_engine_cache_enable"]) == ("1", "1")
        folders.append(Path(found["trt_engine_cache_path"]))
    assert all(folder.is_dir() and folder.is_relative_to(tmp_path / "home") for folder in folders)
    assert folders[0] == folders[2] != folders[1]


def test_a_model_that_is_no_graph_leaves_that_candidate_out(opened: Callable[..., OnnxRuntimeSession]) -> None:
    refusal = "This session cannot use the graph capture feature as requested by the user as the model has control flow"
    with pytest.raises(BackendUnavailableError, match=r"cannot be run as a CUDA graph.*control flow"):
        opened(FakeOrt(failure=refusal), OnnxRuntimeBackend.cuda(), graph="1")
    with pytest.raises(BundleError, match="expected an ONNX model"):
        opened(FakeOrt(failure="Protobuf parsing failed."), OnnxRuntimeBackend.cuda(), graph="1")


def test_a_session_of_graphs_takes_no_tensors_on_the_device(opened: Callable[..., OnnxRuntimeSession]) -> None:
    session = opened(FakeOrt(), OnnxRuntimeBackend.cuda(), graph="1")
    with pytest.raises(WrongUseError, match="graph"):
        session.run_bound({})


def test_tensorrt_is_here_where_its_libraries_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., OnnxRuntimeSession]
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "find_library", lambda name: None)
    monkeypatch.setattr(onnxruntime_cuda, "TENSORRT_LIBRARY", "libnvinfer-that-is-nowhere.so.10")
    reason = why_no_tensorrt()
    assert reason is not None
    assert "pip install tensorrt" in reason
    with monkeypatch.context() as found:
        found.setattr(onnxruntime_cuda, "find_library", lambda name: f"lib{name}.so.10")
        assert why_no_tensorrt() is None
    (tmp_path / "tensorrt_libs.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert why_no_tensorrt() is None
    # A wheel that does not load leaves it to ONNX Runtime to say what is missing.
    assert opened(FakeOrt(), OnnxRuntimeBackend.tensorrt()).native is not None


def test_a_wheel_that_another_one_overwrote_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfTheCpu:
        __version__ = "1.31"

        @staticmethod
        def get_available_providers() -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime_module, "_installed", lambda: ("onnxruntime-gpu", "1.31"))
    told = OnnxRuntimeBackend.cuda()._missing_provider(OfTheCpu())  # type: ignore[arg-type]
    assert told is not None
    assert "overwritten" in told
    assert "pip install --force-reinstall --no-deps onnxruntime-gpu" in told
