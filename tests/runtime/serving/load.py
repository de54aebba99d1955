"""Load on threads that ask without end, and what each outcome means: answered, not accepted, lost, or wrong."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np

from protos import inference
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, Outcome, infer_message, outcome_of
from tests.runtime.serving.real import FIRST, INPUTS, SECOND
from tests.runtime.serving.threaded import PATIENCE_S

PAUSE_S = 0.01
# How gRPC's client says that no server took the call: it never had a connection, or the server itself refused.
# The native front ends connections without waiting for calls that it has not handed over; what it has handed over and not answered
# would be in the server's log.
NOT_ACCEPTED = ("failed to connect to all addresses", "shutting down", "Stream removed (Socket closed (GOAWAY received")


class Load:
    """Asks without end on a thread of its own; counts what came back."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.counts: Counter[str] = Counter()
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        pause_s = PAUSE_S
        while not self._stop.wait(pause_s):
            told = self._ask()
            self.counts[told] += 1
            pause_s = PAUSE_S if told == "answered" else 10 * PAUSE_S

    def wait_for_answers(self, more: int) -> None:
        wanted, end = self.counts["answered"] + more, time.monotonic() + 2 * PATIENCE_S
        while self.counts["answered"] < wanted:
            assert time.monotonic() < end, self.counts
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def over_grpc(client: GrpcClient) -> Callable[[], str]:
    def ask() -> str:
        told = client.send(Call("simple", INPUTS))
        if told.status == "UNAVAILABLE" and any(words in told.text for words in NOT_ACCEPTED):
            return "not accepted"
        return judged(told)

    return ask


def over_stream(client: GrpcClient) -> Callable[[], str]:
    """A stream for each five requests."""

    def ask() -> str:
        method = inference.METHODS["ModelStreamInfer"]
        stub = client.channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
        sent = [infer_message(Call("simple", INPUTS)) for _ in range(5)]
        try:
            replies = list(stub(iter(sent), timeout=PATIENCE_S))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and any(words in error.details() for words in NOT_ACCEPTED):
                return "not accepted"
            return f"lost: {error.code().name} {error.details()}"
        for reply in replies:
            if reply.error_message:
                return "not accepted" if "shutting down" in reply.error_message else f"lost: {reply.error_message}"
        if len(replies) != len(sent):
            return f"lost: {len(replies)} of {len(sent)} answers"
        told = {judged(outcome_of(reply.infer_response)) for reply in replies}
        return "answered" if told == {"answered"} else str(told)

    return ask


def over_http(port: int) -> Callable[[], str]:
    """A connection for each request: one that is refused, or reset before the server took it, was not accepted."""

    def ask() -> str:
        client = HttpClient(f"127.0.0.1:{port}", binary=True)
        try:
            told = client.send(Call("simple", INPUTS))
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError) as error:
            # The kernel's words for a connection that waited for a listener that closed; a server that had taken it ends it
            # with an answer, or without one as RemoteDisconnected, which is a ConnectionResetError too.
            return "lost: disconnected" if isinstance(error, http.client.RemoteDisconnected) else "not accepted"
        finally:
            client.close()
        return "not accepted" if told.status == 503 and "shutting down" in told.text else judged(told)

    return ask


def judged(told: Outcome) -> str:
    if told.status != "OK":
        return f"lost: {told.status} {told.text}"
    return "wrong" if operators_of(told) is None else "answered"


def operators_of(told: Outcome) -> tuple[str, str] | None:
    """Which of the two models answered; None: neither, or a mixture of both."""
    right = {"Add": FIRST + SECOND, "Sub": FIRST - SECOND}
    for operators in (("Add", "Sub"), ("Sub", "Add")):
        if all(np.array_equal(told.outputs[f"OUTPUT{at}"], right[name]) for at, name in enumerate(operators)):
            return operators
    return None
