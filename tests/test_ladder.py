"""The import ladder: who may import whom, and what an import must not bring along."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINES = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "torch", "openvino", "tensorflow"}
TERMINAL = {"typer", "rich"}

IMPORT_ALL_OF_RUNTIME = """
import importlib, json, pkgutil, sys
import runtime
names = [m.name for m in pkgutil.walk_packages(runtime.__path__, "runtime.")]
names = [n for n in names if not n.startswith(("runtime.cli", "runtime.models"))]
for name in names:
    importlib.import_module(name)
print(json.dumps({"imported": names, "modules": sorted({m.partition(".")[0] for m in sys.modules})}))
"""


def run_python(code: str) -> str:
    """Standard output of `code` in a new interpreter at the root of the project."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_imports_go_downward_only() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra dev)")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_importing_the_runtime_imports_no_engine_and_no_terminal_library() -> None:
    told = json.loads(run_python(IMPORT_ALL_OF_RUNTIME))
    assert len(told["imported"]) > 50, "the walk has found the modules"
    assert (ENGINES | TERMINAL) & set(told["modules"]) == set()


def test_only_config_reads_the_environment() -> None:
    # Not the benchmarks: they start other programs and hand the environment on.
    readers = set()
    for folder in ("protos", "runtime", "edge_agent", "cloud_gateway"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                is_environ = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
                if is_environ and isinstance(node.value, ast.Name) and node.value.id == "os":
                    readers.add(str(file.relative_to(ROOT)))
    assert readers == {"runtime/config.py"}
