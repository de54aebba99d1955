"""A whole agent on a disk that is really full, and one that is stopped and goes on: local answers stay, and nothing is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.client.sync import Client
from runtime.errors import EdgewardError
from runtime.wire.values import InferenceResponse
from tests.programs import PATIENCE_S, Program, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUN = ("agent", "run", "digits", "--grpc-port", "0", "--http-port", "0")
DISK_MB = 12


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of some megabytes, where this user may mount one."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a small disk to fill it")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "edgeward-test", str(folder))
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


@pytest.fixture
def images(digits: Bundle) -> np.ndarray:
    samples = digits.samples()
    assert samples is not None
    return samples.inputs["image"]


def fill(file: Path) -> None:
    """To the last byte."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 16, 512, 1):
            with suppress(OSError):
                while True:
                    ballast.write(bytes(size))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (file.parent / "one more").write_bytes(bytes(4096))


def fetched(client: Client, handle: object) -> InferenceResponse:
    end = time.monotonic() + PATIENCE_S
    while (answer := client.fetch(handle)) is None:  # type: ignore[arg-type]
        assert time.monotonic() < end, "it is never answered"
        time.sleep(0.05)
    return answer


def test_on_a_full_disk_requests_are_refused_clearly_and_local_answers_go_on(disk: Path, images: np.ndarray) -> None:
    with started(disk, *RUN) as agent, connect(agent.grpc) as client:
        first = client.submit("digits", {"image": images[:1]}, key="before")
        assert fetched(client, first).outputs
        ballast = disk / "ballast"
        fill(ballast)
        refused: list[str] = []
        for number in range(200):
            try:
                client.submit("digits", {"image": images[:64]}, key=f"full-{number}")
            except EdgewardError as error:
                refused.append(str(error))
            answer = client.predict("digits", images[number : number + 1], timeout_s=10.0)
            assert answer.parameters["served_by"] == "edge"
        assert refused, "what could not be kept was not acknowledged"
        assert all("disk" in text for text in refused), "the reason and what to look at"
        told = agent.status()
        assert told["models"], "the status answers too"
        ballast.unlink()
        (disk / "one more").unlink(missing_ok=True)
        again = client.submit("digits", {"image": images[:1]}, key="after")
        np.testing.assert_array_equal(
            fetched(client, again).outputs["probabilities"], fetched(client, first).outputs["probabilities"]
        )


def test_an_agent_that_was_stopped_goes_on_where_it_was(tmp_path: Path, images: np.ndarray) -> None:
    with started(tmp_path, *RUN) as agent, connect(agent.grpc) as client:
        handles = [client.submit("digits", {"image": images[at : at + 1]}, key=f"k{at}") for at in range(20)]
        os.kill(agent.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(EdgewardError):
                client.predict("digits", images[:1], timeout_s=0.5)
            assert is_stopped(agent)
        finally:
            os.kill(agent.process.pid, signal.SIGCONT)
        assert client.predict("digits", images[:1], timeout_s=PATIENCE_S).parameters["served_by"] == "edge"
        for at, handle in enumerate(handles):
            direct = client.predict("digits", images[at : at + 1], timeout_s=PATIENCE_S).outputs["probabilities"]
            np.testing.assert_allclose(fetched(client, handle).outputs["probabilities"], direct, rtol=1e-5, atol=1e-6)


def is_stopped(agent: Program) -> bool:
    """As the kernel says it."""
    stat = Path(f"/proc/{agent.process.pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "T"
