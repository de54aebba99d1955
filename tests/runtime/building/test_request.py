"""What a person asks for: TOML, flags over it, steps in short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.building.request import parse_steps, read_request
from runtime.bundle.manifest import Task
from runtime.bundle.preprocessing import Cast, ChangeLayout, Normalise, Reorder, Resize, Scale
from runtime.errors import WrongUseError


def test_short_forms() -> None:
    texts = [
        "resize:32x48:nearest:NCHW",
        "scale:1/255",
        "normalise:1,2,3/4,5,6:1",
        "layout:NHWC",
        "reorder:2,1,0",
        "cast:FP16",
    ]
    assert parse_steps(texts) == (
        Resize(height=32, width=48, method="nearest", layout="NCHW"),
        Scale(by=1 / 255),
        Normalise(mean=(1, 2, 3), std=(4, 5, 6), axis=1),
        ChangeLayout(to="NHWC"),
        Reorder(order=(2, 1, 0)),
        Cast(datatype="FP16"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resize",
        "resize:32",
        "resize:axb",
        "scale:",
        "scale:1/0",
        "normalise:1",
        "layout:CHW",
        "shrink:2",
        "cast:FLOAT",
    ],
)
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(WrongUseError, match="preprocessing"):
        parse_steps([text])


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        'name = "a"\ntask = "classification"\n[targets]\naccuracy_floor = 0.9\np95_latency_ms = 5\n'
        '[inputs.image]\nmodel_input = "x"\npreprocess = [{step = "scale", by = 2.0}]\n'
    )
    request = read_request(tmp_path / "spec.toml", {"name": "b", "accuracy_floor": 0.95, "version": None})
    assert (request.name, request.version, request.task) == ("b", 1, Task.CLASSIFICATION)
    assert (request.targets.accuracy_floor, request.targets.p95_latency_ms) == (0.95, 5)
    assert request.inputs["image"].preprocess == (Scale(by=2.0),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nam = 1", "nam"),
        ("name = [", "not TOML"),
        ("[targets]\naccuracy_floor = 95", "targets.accuracy_floor"),
        ("version = 0", "version"),
    ],
)
def test_a_file_that_does_not_describe_a_build(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(WrongUseError, match=said):
        read_request(tmp_path / "spec.toml", {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="cannot be read"):
        read_request(tmp_path / "absent.toml", {})
