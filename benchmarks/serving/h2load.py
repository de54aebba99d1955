"""The load: nghttp2's `h2load`, a native program, as one measurement with every reply accounted for."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
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


@dataclass(frozen=True, slots=True)
class OpenResult:
    """What a load at a fixed rate saw, whether or not the server kept up."""

    asked_per_s: float
    per_s: float
    """Requests sent, by second of the time in which they were; every one was answered, some later."""
    p50_ms: float
    """From when a request went, not from when it was due; so p99."""
    p99_ms: float


def why_absent() -> str | None:
    """None where the program is installed."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed; it comes with nghttp2 (Debian: nghttp2-client, Homebrew: nghttp2)"
    return None


def drive(exchange: Exchange, port: int, connections: int, seconds: float, reply_bytes: int) -> LoadResult:
    """Closed load on `connections` connections, one request at a time on each; `LoadError` when any reply was not good."""
    options = ["-m", "1", "-D", f"{round(seconds * 1000)}ms"]
    with tempfile.TemporaryDirectory() as folder:
        said = _run(exchange, port, connections, options, Path(folder), seconds + 60)
    return _parse(said, seconds, reply_bytes)


def drive_count(exchange: Exchange, port: int, connections: int, count: int, reply_bytes: int) -> LoadResult:
    """The same for so many requests, however long they take."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        said = _run(exchange, port, connections, ["-m", "1", "-n", str(count)], Path(folder), None)
    return _parse(said, time.perf_counter() - started, reply_bytes)


def drive_open(exchange: Exchange, port: int, per_s: float, seconds: float, reply_bytes: int) -> OpenResult:
    """Load at a fixed rate, which does not wait for answers while a stream or connection is free.

    gRPC: 8 connections of up to 64 calls each. HTTP/1.1 has one request a connection, so 64 connections share the rate: a server
    that falls behind on all of them slows the load down, and the rate that came about is told.
    """
    connections = 8 if exchange.is_grpc else 64
    each = max(round(per_s / connections), 1)
    # A duration makes h2load ignore --rps; requests of each connection, at its rate, last as long.
    count = max(round(each * seconds), 1) * connections
    options = ["-m", "64" if exchange.is_grpc else "1", "-n", str(count), "--rps", str(each)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log"
        said = _run(exchange, port, connections, [*options, "--log-file", str(file)], Path(folder), seconds * 10 + 60)
        _parse(said, seconds, reply_bytes)
        rows = [line.split("\t") for line in file.read_text().splitlines()]
    starts, took = [int(row[0]) for row in rows], sorted(int(row[2]) for row in rows)
    span_s = (max(starts) - min(starts)) / 1e6
    return OpenResult(
        each * connections, len(rows) / max(span_s, 1e-9), _quantile_ms(took, 0.5), _quantile_ms(took, 0.99)
    )


def _quantile_ms(sorted_us: list[int], share: float) -> float:
    return sorted_us[min(int(share * len(sorted_us)), len(sorted_us) - 1)] / 1000


def _run(
    exchange: Exchange, port: int, connections: int, options: list[str], folder: Path, timeout_s: float | None
) -> str:
    data = folder / "body"
    data.write_bytes(exchange.body)
    command = [PROGRAM, "-c", str(connections), "-t", "1", "-d", str(data), *options]
    if exchange.is_grpc:
        # As gRPC's own clients do for large messages: a window that holds one.
        command += ["-w", "24", "-W", "24"]
    else:
        command.append("--h1")
    for name, value in exchange.headers.items():
        command += ["-H", f"{name}: {value}"]
    command.append(f"http://127.0.0.1:{port}{exchange.path}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.stdout + done.stderr


def _parse(text: str, seconds: float, reply_bytes: int) -> LoadResult:
    totals = re.search(
        r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
        text,
    )
    traffic = re.search(r"traffic: .*?\((\d+)\) data", text)
    if totals is None or traffic is None:
        raise LoadError(f"{PROGRAM} said: {text[-500:]!r}")
    done, succeeded, failed, errored, timed_out = map(int, totals.groups())
    if not done and not errored:
        raise LoadError(f"no request of {PROGRAM} was answered within {seconds:g} s; measure longer")
    if succeeded == 0 or failed or errored or timed_out:
        raise LoadError(
            f"of {PROGRAM}'s requests {done} done, {succeeded} succeeded, {failed} failed, {errored} errored, {timed_out} timed out"
        )
    mean_bytes = int(traffic[1]) / succeeded
    if mean_bytes < LEAST_DATA_SHARE * reply_bytes:
        raise LoadError(
            f"replies had {mean_bytes:.0f} bytes on average, a right answer has {reply_bytes}: some were errors"
        )
    return LoadResult(succeeded, seconds)
