"""The load: nghttp2's `h2load`, a native program, as one measurement with every reply accounted for."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.exchange import Exchange

PROGRAM = "h2load"

# A gRPC error is a status 200 with less in it than an answer: so many bytes of the answer have to come, on average.
LEAST_DATA_SHARE = 0.99


class LoadError(Exception):
    """The load did not go through as it should; the text says what came back."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one run of the load saw."""

    requests: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def why_absent() -> str | None:
    """None where the program is installed."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed; it comes with nghttp2 (Debian: nghttp2-client, Homebrew: nghttp2)"
    return None


def drive(exchange: Exchange, port: int, connections: int, seconds: float, reply_bytes: int) -> LoadResult:
    """Closed load on `connections` connections, one request at a time on each; `LoadError` when any reply was not good."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "body"
        data.write_bytes(exchange.body)
        command = [
            PROGRAM,
            "-c",
            str(connections),
            "-m",
            "1",
            "-t",
            "1",
            "-D",
            f"{round(seconds * 1000)}ms",
            "-d",
            str(data),
        ]
        if not exchange.is_grpc:
            command.append("--h1")
        for name, value in exchange.headers.items():
            command += ["-H", f"{name}: {value}"]
        command.append(f"http://127.0.0.1:{port}{exchange.path}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    return _parse(done.stdout + done.stderr, seconds, reply_bytes)


def _parse(text: str, seconds: float, reply_bytes: int) -> LoadResult:
    totals = re.search(
        r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
        text,
    )
    traffic = re.search(r"traffic: .*?\((\d+)\) data", text)
    if totals is None or traffic is None:
        raise LoadError(f"{PROGRAM} said: {text[-500:]!r}")
    done, succeeded, failed, errored, timed_out = map(int, totals.groups())
    if succeeded == 0 or failed or errored or timed_out:
        raise LoadError(
            f"{done} done, {succeeded} succeeded, {failed} failed, {errored} errored, {timed_out} timed out"
        )
    mean_bytes = int(traffic[1]) / succeeded
    if mean_bytes < LEAST_DATA_SHARE * reply_bytes:
        raise LoadError(
            f"replies had {mean_bytes:.0f} bytes on average, a right answer has {reply_bytes}: some were errors"
        )
    return LoadResult(succeeded, seconds)
