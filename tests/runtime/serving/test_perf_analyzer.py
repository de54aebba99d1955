"""Triton's own load generator against our server, where its binary is: pytest --perf-analyzer FILE, or one on the PATH.

NVIDIA's wheels of tritonclient up to 2.41 have it in their `bin`; it wants libb64 and libcudart.so.12 beside it, no GPU.
"""

import csv
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.real import serving_models
from tests.runtime.serving.threaded import Threaded


@pytest.fixture(scope="module")
def analyzer(request: pytest.FixtureRequest) -> str:
    found = request.config.getoption("--perf-analyzer") or shutil.which("perf_analyzer")
    if found is None:
        pytest.skip("no perf_analyzer on the PATH and no --perf-analyzer FILE")
    return str(found)


@pytest.fixture(scope="module", params=at_hand())
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, analyzer: str) -> Iterator[Threaded]:
    with serving_models(tmp_path_factory.mktemp("analyzed"), grpc_front=request.param) as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "options",
    [
        ["-i", "grpc"],
        ["-i", "http"],
        ["-i", "grpc", "--streaming"],
        ["-i", "grpc", "--shared-memory", "system"],
        ["-i", "http", "--shared-memory", "system"],
    ],
    ids=["grpc", "http", "stream", "memory over grpc", "memory over http"],
)
def test_perf_analyzer_measures_us(real: Threaded, analyzer: str, options: list[str], tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    command = [analyzer, "-m", "simple", "-u", real.http if "http" in options else real.grpc, *options]
    # 200 requests; that its windows agree within a factor is not what is tested.
    told = subprocess.run(
        [
            *command,
            "--measurement-mode",
            "count_windows",
            "--measurement-request-count",
            "200",
            "-s",
            "999",
            "-f",
            table,
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    with table.open() as rows:
        (row,) = csv.DictReader(rows)
    assert float(row["Inferences/Second"]) > 0
    assert float(row["Server Compute Infer"]) > 0, "the server's statistics are read too"
