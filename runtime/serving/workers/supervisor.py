"""`--workers N`: N processes of one server on the same ports, started, watched and ended by one that serves nothing itself.

The kernel spreads connections over them (SO_REUSEPORT); a connection stays with its worker. Linux alone balances that way: macOS
and Windows either refuse it or hand everything to one process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runtime.errors import EdgewardError, MachineError, WrongUseError
from runtime.serving.own_folder import OwnFolder
from runtime.serving.sockets import Endpoint, listen, reserve, resolve
from runtime.serving.workers.restarts import MAX_RESTARTS, WINDOW_S, Restarts

log = logging.getLogger(__name__)

# Beyond the time that draining may take: ending an interpreter with its engines.
END_MARGIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker a process is, and where it listens."""

    number: int
    count: int
    name: str
    """Of its file of totals: another one each time that it is started."""
    folder: Path
    """Where the workers tell each other their totals."""
    host: str
    grpc_port: int
    http_port: int
    cores: tuple[int, ...]
    """The share of the machine that this worker measures and runs on; empty: all of it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a worker did not start."""

    text: str
    is_wrong_use: bool


Work = Callable[[Place, Any, Connection], None]
"""Serves as a worker until SIGTERM or until the connection's other end is gone; sends what it started with on the connection."""


class Supervisor:
    """Runs `count` workers of `work(place, settings, connection)`; `work` is a function of a module, for it is sent by name."""

    def __init__(self, work: Work, settings: Any, count: int, drain_timeout_s: float) -> None:
        if (why_not := why_no_workers()) is not None:
            raise WrongUseError(f"--workers {count}: {why_not}; serve with --workers 1")
        self._work = work
        self._settings = settings
        self._count = count
        self._drain_timeout_s = drain_timeout_s
        self._starts = 0
        self._restarts = Restarts()
        self._signals = 0
        self._spawn = multiprocessing.get_context("spawn")

    def run(self, host: str, grpc_port: int, http_port: int, on_started: Callable[[Any], None]) -> None:
        """Until SIGTERM or SIGINT; then every worker drains. `on_started` gets what the first worker sent.

        Raises what kept a worker from starting; `MachineError` when workers end by themselves again and again.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(closing(OwnFolder("edgeward-workers-"))).path
            at = resolve(host)
            # Bound and never listened on: the ports stay ours while a worker is started again.
            ports = [
                _take(stack, Endpoint(at, port), name) for port, name in ((grpc_port, "gRPC"), (http_port, "HTTP"))
            ]
            shares = split_cores(sorted(os.sched_getaffinity(0)), self._count)
            places = [
                Place(number, self._count, "", folder, at, ports[0], ports[1], shares[number])
                for number in range(self._count)
            ]
            woken = self._catch_signals(stack)
            running: list[_Running] = []
            try:
                self._start_all(places, running, woken, on_started)
                while not self._signals:
                    self._watch(running, woken)
            finally:
                self._end(running, woken)

    def _start_all(
        self, places: Sequence[Place], running: list[_Running], woken: int, on_started: Callable[[Any], None]
    ) -> None:
        """One after the other: the first measures what the others then find in the cache."""
        first: Any = None
        for place in places:
            one = self._start(place)
            running.append(one)
            while not self._signals and one.told is None:
                _drain_pipe(woken, wait([woken, one.connection, one.process.sentinel]))
                one.listen()
            if self._signals:
                return
            if isinstance(one.told, Failed):
                raise (WrongUseError if one.told.is_wrong_use else MachineError)(one.told.text)
            first = first or one.told
        on_started(first)

    def _watch(self, running: list[_Running], woken: int) -> None:
        """Waits for something to happen; a worker that ended by itself is started again."""
        _drain_pipe(woken, wait([woken, *(one.process.sentinel for one in running)]))
        if self._signals:
            return
        for at, one in enumerate(running):
            if one.process.is_alive():
                continue
            one.close()
            code, lived_s = one.process.exitcode, time.monotonic() - one.started
            if not self._restarts.allows(time.monotonic()):
                raise MachineError(
                    f"worker {one.place.number} ended with code {code} after {lived_s:.1f} s, as {MAX_RESTARTS} before it did "
                    f"within {WINDOW_S:.0f} s; see their last words above"
                )
            log.error("worker %d ended with code %s; requests it had accepted are lost; starting it again", at, code)
            running[at] = self._start(one.place)

    def _start(self, place: Place) -> _Running:
        self._starts += 1
        ours, theirs = self._spawn.Pipe()
        place = Place(
            place.number, place.count, f"worker-{place.number}-{self._starts}", place.folder, place.host,
            place.grpc_port, place.http_port, place.cores,
        )  # fmt: skip
        process = self._spawn.Process(target=_in_worker, args=(self._work, place, self._settings, theirs))
        process.start()
        theirs.close()
        return _Running(place, process, ours)

    def _end(self, running: Sequence[_Running], woken: int) -> None:
        for one in running:
            if one.process.is_alive():
                one.process.terminate()
        end = time.monotonic() + self._drain_timeout_s + END_MARGIN_S
        passed_on = max(self._signals, 1)
        while (left := [one for one in running if one.process.is_alive()]) and time.monotonic() < end:
            _drain_pipe(woken, wait([woken, *(one.process.sentinel for one in left)], end - time.monotonic()))
            if self._signals > passed_on:  # a second Ctrl-C: each drops what hangs
                passed_on = self._signals
                for one in left:
                    one.process.terminate()
        for one in running:
            if one.process.is_alive():
                log.error("worker %d did not end in time and is killed", one.place.number)
                one.process.kill()
            one.process.join()
            one.close()

    def _catch_signals(self, stack: ExitStack) -> int:
        """Counts SIGTERM and SIGINT from now on, and wakes whoever waits for the pipe that is returned."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)

        def on_signal(*_: object) -> None:
            self._signals += 1
            os.write(writer, b"x")

        for kind in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, kind, signal.signal(kind, on_signal))
        return reader


class _Running:
    """One worker's process and what it said."""

    def __init__(self, place: Place, process: Any, connection: Connection) -> None:
        self.place = place
        self.process = process
        self.connection = connection
        self.started = time.monotonic()
        self.told: Any = None

    def listen(self) -> None:
        """Takes what it sent, or notes that it ended without a word."""
        try:
            if self.connection.poll():
                self.told = self.connection.recv()
            elif not self.process.is_alive():
                raise EOFError
        except EOFError:
            self.process.join()
            self.told = Failed(
                f"worker {self.place.number} ended with code {self.process.exitcode} at its start", False
            )

    def close(self) -> None:
        """Gives the connection back."""
        self.connection.close()


def why_no_workers() -> str | None:
    """None where the kernel spreads connections over processes that listen on one port."""
    if sys.platform != "linux":
        return f"{sys.platform} does not spread connections over processes that share a port"
    return None


def split_cores(cores: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Every core to one worker, as evenly as it goes; nothing is set aside where there are fewer cores than workers."""
    if count > len(cores):
        return [()] * count
    return [tuple(cores[at::count]) for at in range(count)]


def _in_worker(work: Work, place: Place, settings: Any, connection: Connection) -> None:
    os.setsid()  # Ctrl-C at the terminal is for the supervisor, which passes it on
    if place.cores:
        os.sched_setaffinity(0, place.cores)
    try:
        work(place, settings, connection)
    except EdgewardError as error:
        connection.send(Failed(str(error), isinstance(error, WrongUseError)))
        sys.exit(1)


def _take(stack: ExitStack, endpoint: Endpoint, protocol: str) -> int:
    """Keeps the port for the workers; `PortInUseError` when somebody listens there."""
    if endpoint.port:
        listen(endpoint, protocol).close()
    held: socket.socket = stack.enter_context(reserve(endpoint, protocol))
    return int(held.getsockname()[1])


def _drain_pipe(reader: int, ready: Sequence[Any]) -> None:
    if reader in ready:
        os.read(reader, 4096)
