"""The front door: what an import costs, what a command says when it goes wrong, and that every command explains itself."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

import edgeward
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    ["probe"],
    ["calibrate"],
    ["predict"],
    ["serve"],
    ["bundle", "inspect"],
    ["bundle", "verify"],
    ["agent", "run"],
    ["agent", "status"],
    ["agent", "install"],
    ["agent", "uninstall"],
    ["agent", "submit"],
    ["agent", "jobs"],
    ["agent", "cancel"],
    ["agent", "sync"],
    ["gateway", "run"],
    ["gateway", "status"],
    ["gateway", "push"],
    ["gateway", "keys", "create"],
    ["gateway", "keys", "list"],
    ["gateway", "keys", "revoke"],
    ["review", "list"],
    ["review", "answer"],
    ["review", "levels"],
    ["review", "move"],
    ["review", "export"],
    ["review", "import"],
    ["release", "start"],
    ["release", "status"],
    ["release", "promote"],
    ["release", "pause"],
    ["release", "resume"],
    ["release", "abort"],
    ["release", "rollback"],
    ["release", "simulate"],
    ["release", "audit"],
    ["bench", "run"],
]
WITHOUT_JSON = ("revoke", "export")


def exit_code(arguments: list[str]) -> int:
    """What `edgeward ARGUMENTS` ends with, run in this process."""
    with pytest.raises(SystemExit) as ended:
        edgeward.main(arguments)
    return 0 if ended.value.code is None else int(ended.value.code)


def test_importing_it_imports_neither_engine_nor_grpc_nor_numpy_nor_a_terminal_library() -> None:
    code = "import sys, json, edgeward; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    heavy = {
        "onnxruntime",
        "ai_edge_litert",
        "torch",
        "openvino",
        "grpc",
        "google",
        "typer",
        "rich",
        "numpy",
        "pydantic",
    }
    assert heavy & set(json.loads(done.stdout)) == set()


@pytest.mark.parametrize("name", edgeward.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(edgeward, name) is not None
    assert name in dir(edgeward)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'lood'; it has .*load"):
        edgeward.lood  # noqa: B018


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert edgeward.__version__ == version("edgeward")
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeward {version('edgeward')}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example_and_those_that_programs_read_have_json(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: edgeward {' '.join(command)}" in " ".join(shown.split())
    assert ("--json" in shown) == (command[-1] not in WITHOUT_JSON)


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (
            ["agent", "status", "--http-port", "{port}"],
            {"EDGEWARD_GRPC_PORT": "{port}", "EDGEWARD_POLICY": "cloud_only"},
        ),
        (["agent", "jobs", "--http-port", "{port}"], {"EDGEWARD_GRPC_PORT": "{port}", "EDGEWARD_POLICY": "cloud_only"}),
        (["gateway", "status", "--http-port", "{port}"], {"EDGEWARD_GRPC_PORT": "{port}", "EDGEWARD_POLL_S": "1"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_command_that_asks_does_not_judge_how_a_program_would_listen(
    command: list[str],
    variables: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(port=port))
    assert exit_code([word.format(port=port) for word in command]) == 1
    assert f"127.0.0.1:{port} is unreachable" in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in {command[0] for command in COMMANDS}:
        assert re.search(rf"\b{command}\b", shown)


def test_a_failure_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").touch()
    assert exit_code(["bundle", "verify", str(tmp_path / "net.onnx")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"edgeward: {tmp_path / 'net.onnx'} is empty; copy the model file again\n"
    assert told.err.count("\n") == 1


def test_wrong_use_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["predict", "digits", str(tmp_path / "in.txt"), "-o", "out.csv"]) == 2
    assert "'.txt'; expected one of .npz, .npy" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["proob"], ["probe", "--jsn"], ["predict", "digits"]], ids=" ".join)
def test_what_the_command_line_does_not_know_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_a_misspelt_variable_is_said_and_those_of_other_programs_are_not() -> None:
    variables = {"EDGEWARD_GRPC_PROT": "1", "EDGEWARD_GATEWAY": "cloud:1", "EDGEWARD_KEYS": "k.json"}
    command = [sys.executable, "-c", "import edgeward; edgeward.main(['--version'])"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=True, cwd=ROOT
    )
    said = [line for line in done.stderr.splitlines() if "is no setting" in line]
    assert any("EDGEWARD_GRPC_PROT" in line and "'EDGEWARD_GRPC_PORT'" in line for line in said)
    assert not any("EDGEWARD_GATEWAY " in line for line in said)


def test_every_programs_settings_are_known_where_variables_are_checked() -> None:
    sources = [
        file
        for room in ("runtime", "edge_agent", "cloud_gateway", "benchmarks")
        for file in (ROOT / room).rglob("*.py")
    ]
    loaded = {
        kind
        for file in sources
        for kind in re.findall(r"load_settings\((\w+Settings)(?![^)]*known=)", file.read_text())
    }
    assert loaded == set(edgeward._SETTINGS.values())


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(edgeward.errors.BundleError):
        edgeward.main(["--debug", "bundle", "verify", "no-such-bundle"])


@pytest.mark.slow
def test_ctrl_c_ends_a_server_tidily(tmp_path: Path, calibrated_home: Path) -> None:
    shutil.copytree(calibrated_home / "calibrations", tmp_path / "calibrations")
    environment = {**os.environ, "EDGEWARD_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "edgeward", "serve", "digits", "--grpc-port", "0", "--http-port", "0", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        told = json.loads(line)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert told["models"][0]["name"] == "digits"
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert errors.endswith("edgeward-serve: stopped\n")


@pytest.mark.slow
def test_ctrl_c_during_a_calibration_is_exit_code_130(tmp_path: Path) -> None:
    environment = {**os.environ, "EDGEWARD_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "edgeward", "calibrate", "digits", "--budget", "60"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        workers = wait_for_children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.endswith("edgeward: interrupted\n")
    psutil.wait_procs(workers, timeout=10)
    assert [worker for worker in workers if worker.is_running()] == []


def wait_for_children(pid: int) -> list[psutil.Process]:
    """The processes that it has started, once there is one: the calibration measures in a process of its own."""
    end = time.monotonic() + 30
    while not (children := psutil.Process(pid).children(recursive=True)):
        assert time.monotonic() < end, "no candidate is tried"
        time.sleep(0.01)
    return children


@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "digitz"],
        ["bundle", "inspect", "nosuch.onnx"],
        ["predict", "digits", "nosuch.npz", "-o", "out.csv"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_wrong_use_whichever_command_is_told_of_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(arguments) == 2
    told = capsys.readouterr()
    assert "check the path" in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["release", "status", "digits", "--admin-port"], "`edgeward gateway run MODEL`, or give the --admin-port"),
        (["review", "list", "--admin-port"], "`edgeward gateway run MODEL`, or give the --admin-port"),
        (["gateway", "status", "--http-port"], "`edgeward gateway run MODEL`, or give the --http-port"),
        (["agent", "status", "--http-port"], "`edgeward agent run MODEL`, or give the --http-port"),
        (["agent", "jobs", "--http-port"], "`edgeward agent run MODEL`, or give the --http-port"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_where_nobody_listens_the_command_that_starts_it_is_named(
    arguments: list[str], step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert exit_code([*arguments, str(bound.getsockname()[1])]) == 1
    said = capsys.readouterr().err
    assert step in said
    assert "Errno" not in said
