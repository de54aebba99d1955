"""The GPU benchmark, on whatever machine: its programs, its ways of handing over, its tables, and what a crash costs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import models
from benchmarks.gpu.results import BATCHES, Cell, Line, Sheet, markdown, summary
from benchmarks.gpu.ways import CPU, Handing, Way, call_of, ways
from benchmarks.selection import networks
from runtime.backends.base import RunOptions
from runtime.backends.torch import TorchBackend
from runtime.hardware import probe

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet-8": networks.resnet_8,
    "resnet-18": lambda: networks.resnet(18, image=32),
    "resnet-50": lambda: networks.resnet(50, image=32),
    "mobilenet-v2": lambda: networks.mobilenet_v2(image=32),
    "transformer": lambda: networks.transformer(length=8, width=32, heads=2, layers=1),
    "digits": lambda: onnx.load(str(models.DIGITS)),
}


@pytest.fixture
def files(tmp_path: Path) -> models.Files:
    (tmp_path / "fp32.onnx").write_bytes(models.DIGITS.read_bytes())
    return models.Files(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_of_torch_computes_what_the_graph_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from benchmarks.selection.torch_graph import save_program

    onnx.save(NETWORKS[name](), str(tmp_path / "fp32.onnx"))
    save_program(onnx.load(str(tmp_path / "fp32.onnx")), tmp_path / "fp32.pt2")
    graph = CPU.open(tmp_path / "fp32.onnx", RunOptions(1))
    program = TorchBackend.cpu().open(tmp_path / "fp32.pt2", RunOptions(1))
    rows = models.Files(tmp_path).rows(5)
    expected = graph.run({graph.inputs[0].name: rows})[graph.outputs[0].name]
    found = program.run({program.inputs[0].name: rows})[program.outputs[0].name]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("handing", Handing)
def test_tensors_handed_over_in_any_way_give_the_same_answers(handing: Handing, files: models.Files) -> None:
    way = Way("CPU", CPU, "fp32.onnx", 1, {}, handing)
    session = way.open(files)
    rows = files.rows(4)
    call, fetch = call_of(way, session, rows)
    expected = session.run({"image": rows})["probabilities"]
    np.testing.assert_array_equal(fetch(), expected)
    rows[:] = rows[::-1].copy()
    call()
    np.testing.assert_array_equal(fetch(), session.run({"image": rows})["probabilities"])


def test_ways_are_told_apart_and_share_sessions() -> None:
    found = ways(16)
    assert len({way.name for way in found}) == len(found)
    assert [way.threads for way in found if way.name.startswith("CPU")] == [1, 8, 16]
    assert len({way.session_key for way in found}) < len(found)


def test_a_file_that_could_not_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(models, "write_fp16", fail)
    monkeypatch.setattr(models, "_write_program", fail)
    files = models.prepare("digits", tmp_path / "digits")
    assert files.path("fp32.onnx").is_file()
    with pytest.raises(models.MissingError, match="it could not be made: no such operator"):
        files.path("fp16.onnx")


def sheet_of(base: list[float], other: list[float]) -> Sheet:
    return Sheet(
        lines={
            "CPU, 1 thread": Line(
                0.1, None, 0.0, {1: Cell(9.0, [4.0, 6.0, 5.0])}, {8: "a call would take about 2.0 s"}
            ),
            "CUDA fp32": Line(0.5, 100.0, 1e-3, {1: Cell(50.0, base)}),
            "CUDA fp32, graph": Line(0.6, 30.0, 1e-3, {1: Cell(60.0, other)}),
        },
        skipped={"torch fp32": "torch is not installed", "torch fp16": "torch is not installed"},
        rounds={1: 3},
    )


def test_tables_tell_what_was_measured_and_what_was_not() -> None:
    sheet = sheet_of([2.0, 1.0, 9.0], [0.5, 1.0, 1.5])
    environment = {
        "libraries": {"onnxruntime": "1"},
        "hardware_text": {"NVIDIA GPU": "H"},
        "python": "3",
        "commit": "c",
    }
    page = markdown({"digits": sheet}, environment, "2026-11-27")
    assert "| CUDA fp32, graph | 1.000 (1,000) |" in page
    assert "- torch fp32; torch fp16: skipped: torch is not installed" in page
    assert "- CPU, 1 thread, 8 rows: skipped: a call would take about 2.0 s" in page
    text = summary("digits", sheet)
    assert "CPU 5.000 ms, CUDA 2.000 ms  graph 2.00" in text
    assert "skipped (2: torch fp32, …): torch is not installed" in text


def test_a_sheet_survives_the_way_between_processes() -> None:
    sheet = sheet_of([2.0], [])
    sheet.doing = "CUDA fp32, graph"
    assert Sheet.from_dict(json.loads(json.dumps(sheet.to_dict()))) == sheet


def test_a_way_that_ends_its_process_costs_only_itself(files: models.Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        target = Path(command[-2])
        sheet = Sheet.from_dict(json.loads(target.read_text())) if target.is_file() else Sheet()
        if "CUDA fp16" not in sheet.skipped:
            sheet.doing = "CUDA fp16"
            target.write_text(json.dumps(sheet.to_dict()))
            return subprocess.CompletedProcess(command, -11, "", "Segmentation\nfault")
        sheet.lines["CUDA fp32"], sheet.doing = Line(cells={1: Cell(1.0, [2.0])}), ""
        target.write_text(json.dumps(sheet.to_dict()))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    sheet = gpu.measure("digits", files.folder, 60)
    assert sheet.skipped == {"CUDA fp16": "its process ended with -11: Segmentation fault"}
    assert sheet.ms("CUDA fp32", 1) == 2.0


def test_a_process_that_never_begins_is_not_begun_for_ever(
    files: models.Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        begun.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ImportError: onnx")

    monkeypatch.setattr(subprocess, "run", run)
    assert gpu.measure("digits", files.folder, 60).skipped == {"all": "its process ended with 1: ImportError: onnx"}
    assert len(begun) == 1
    assert gpu.measure("digits", files.folder / "nowhere", 60).skipped == {"all": "fp32.onnx was not made"}


@pytest.mark.slow
def test_the_whole_runs_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "digits", "--minutes", "1.5", "--models", str(tmp_path / "m"), "--output", str(tmp_path)]
    assert gpu.main(arguments) == 0
    (written,) = tmp_path.glob("gpu-*.json")
    sheet = Sheet.from_dict(json.loads(written.read_text())["models"]["digits"])
    assert sheet.best_cpu_ms(BATCHES[0]) is not None
    assert {*sheet.lines, *sheet.skipped} == {way.name for way in ways(probe().cores.threads)}
    assert "digits" in capsys.readouterr().out
    (page,) = tmp_path.glob("gpu-*.md")
    assert str(tmp_path) not in page.read_text() + written.read_text()
