"""What is committed under protos/ is what its `.proto` files compile to, and `--check` notices when not."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE = ("descriptors.binpb", "inference.pyi", "health.pyi")

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is needed to compile .proto files"
    ),
]


def make_protos(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = root / "scripts" / "make_protos.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A project folder with the sources and the script, free to be changed."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "make_protos.py", tmp_path / "scripts")
    return tmp_path


def test_committed_files_are_up_to_date() -> None:
    result = make_protos(ROOT, "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_check_names_what_is_stale_and_writes_nothing(copy: Path) -> None:
    source = copy / "protos" / "health.proto"
    source.write_text(source.read_text(encoding="utf-8").replace("string service = 1;", "string service = 2;"))
    before = {name: (copy / "protos" / name).read_bytes() for name in MADE}
    result = make_protos(copy, "--check")
    assert result.returncode == 1
    assert "descriptors.binpb" in result.stdout
    assert "scripts/make_protos.py" in result.stdout
    assert {name: (copy / "protos" / name).read_bytes() for name in MADE} == before


def test_missing_files_are_made_again(copy: Path) -> None:
    for name in MADE:
        (copy / "protos" / name).unlink()
    assert make_protos(copy).returncode == 0
    assert all((copy / "protos" / name).read_bytes() == (ROOT / "protos" / name).read_bytes() for name in MADE)


def test_a_source_that_does_not_compile_is_told_by_protoc(copy: Path) -> None:
    (copy / "protos" / "health.proto").write_text("nonsense")
    result = make_protos(copy, "--check")
    assert result.returncode == 1
    assert "health.proto:1:1" in result.stderr
