"""A server with real models, small enough to be made here: Triton's 'simple', which adds and subtracts."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy
from runtime.selection.settings import Objective, SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.uploads import Uploads
from tests.runtime.serving.threaded import Threaded, serving

SELECTION = SelectionSettings(budget_s=0.1, isolate=False, backends=("onnxruntime-cpu",))
FIRST = np.arange(16, dtype=np.int32).reshape(1, 16)
SECOND = np.full_like(FIRST, 3)
INPUTS = {"INPUT0": FIRST, "INPUT1": SECOND}


def simple_bytes(operators: tuple[str, str] = ("Add", "Sub")) -> bytes:
    """OUTPUT0 and OUTPUT1 of INPUT0 and INPUT1, int32 [batch, 16]."""

    def tensor(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", 16])

    nodes = [helper.make_node(op, ["INPUT0", "INPUT1"], [f"OUTPUT{at}"]) for at, op in enumerate(operators)]
    graph = helper.make_graph(
        nodes, "simple", [tensor("INPUT0"), tensor("INPUT1")], [tensor("OUTPUT0"), tensor("OUTPUT1")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return model.SerializeToString()


def put_model(repository: Path, name: str, *versions: int, content: bytes | None = None) -> None:
    for version in versions:
        folder = repository / name / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(simple_bytes() if content is None else content)


@cache
def chosen() -> Path:
    """Calibrations of 'simple' in both versions and with either order of its operators, made once a process."""
    root = Path(tempfile.mkdtemp(prefix="edgeward-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    quick = SelectionSettings(budget_s=0.1, isolate=False, usual_objective=Objective.EFFICIENCY)
    for operators in (("Sub", "Add"), ("Add", "Sub")):
        put_model(root / "repository", "simple", 1, 2, content=simple_bytes(operators))
        repository, versions = root / "repository", VersionPolicy.parse("all")
        engine = Engine(EngineSettings(quick, versions, repository=repository, home=root / "home"))
        engine.load("simple")
        engine.close()
    return root / "home" / "calibrations"


def home_with_choices(home: Path) -> Path:
    """`home`, in which programs find their choices for 'simple': calibrating takes longer than all the rest of their start."""
    if not (home / "calibrations").exists():
        shutil.copytree(chosen(), home / "calibrations")
    return home


def make_engine(root: Path, versions: str = "latest:2") -> Engine:
    repository = root / "repository"
    repository.mkdir(exist_ok=True)
    return Engine(EngineSettings(SELECTION, VersionPolicy.parse(versions), repository=repository, home=root / "home"))


@contextmanager
def serving_models(root: Path, *, upload: bool = True, **settings: Any) -> Iterator[Threaded]:
    engine = make_engine(root)
    put_model(root / "repository", "simple", 1, 2)
    put_model(root / "repository", "spare", 1)
    put_model(root / "repository", "broken", 1, content=b"no model")
    engine.load("simple")
    uploads = Uploads(root / "home" / "uploads") if upload else None
    made: list[LocalService] = []

    def make() -> LocalService:
        made.append(LocalService(engine, name="real", version="1", uploads=uploads))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_HOME", str(root / "home"))
        with serving(make_service=make, **settings) as threaded:
            yield threaded
    made[0].close()
