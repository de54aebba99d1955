"""The gateway behind its breaker, over real sockets: a server that answers, fails, vanishes and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

from benchmarks.hybrid.proxy import ChaosProxy, Link
from edge_agent.breaker import BreakerSettings, Outcome
from edge_agent.pace import MIN_ANSWERS
from edge_agent.upstream import FAIR_WAIT_S, Gateway, outcome_of
from runtime import errors
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    PeerFailedError,
    PeerUnreachableError,
    UnauthenticatedError,
)
from runtime.serving.server import Server
from runtime.serving.settings import ServerSettings
from runtime.tensors import TensorSpec
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    ServerDescription,
)

HASTY = BreakerSettings(failures_to_open=2, open_s=0.05, open_cap_s=0.1)
# A fair wait, also where this process was held up between looking at the clock and asking.
PATIENT_S = 2 * FAIR_WAIT_S
REQUEST = InferenceRequest("m", {"x": np.zeros((1, 2), np.float32)})


class Echo:
    """A service that answers with its inputs, or fails as told."""

    def __init__(self, error: EdgewardError | None = None) -> None:
        self.error = error
        self.deadlines: list[float | None] = []
        self.is_silent = False
        self.is_up = True

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.deadlines.append(request.deadline)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return InferenceResponse(request.model, "1", request.inputs, request.id, {"served_by": "cloud"})

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        if name != "m":
            raise ModelNotFoundError(f"model {name!r} is not served here")
        spec = TensorSpec("x", "FP32", (-1, 2))
        return ModelDescription(name, ("1",), "echo", (spec,), (spec,), 8)

    async def is_model_ready(self, name: str, version: str) -> bool:
        return name == "m"

    def describe_server(self) -> ServerDescription:
        return ServerDescription("echo", "1", ())

    def is_live(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self.is_up

    def index(self) -> list[IndexEntry]:
        return []

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        raise AssertionError

    async def unload(self, name: str) -> None:
        raise AssertionError

    async def drain(self) -> None:
        pass


def want_key(key: str | None) -> None:
    if key != "a-good-key-0123456789":
        raise UnauthenticatedError("the API key is not known")


@asynccontextmanager
async def serving(service: Echo, port: int = 0, *, wants_key: bool = False) -> AsyncIterator[int]:
    server = Server(service, ServerSettings(grpc_port=port, http_port=0), want_key if wants_key else None)
    listening = await server.start()
    try:
        yield listening.grpc.port
    finally:
        await server.stop(0)


@asynccontextmanager
async def gateway(port: int, key: str | None = None, breaker: BreakerSettings = HASTY) -> AsyncIterator[Gateway]:
    link = Gateway(f"127.0.0.1:{port}", key, breaker)
    try:
        yield link
    finally:
        await link.close()


async def test_it_passes_requests_on_with_what_is_left_of_the_deadline() -> None:
    service = Echo()
    async with serving(service) as port, gateway(port) as link:
        deadline = time.monotonic() + 60
        response = await link.infer(InferenceRequest("m", REQUEST.inputs, deadline=deadline))
        assert np.array_equal(response.outputs["x"], REQUEST.inputs["x"])
        assert service.deadlines[0] == pytest.approx(deadline, abs=1.0)
        assert (await link.describe_model("m", "")).inputs[0].shape == (-1, 2)
        assert await link.is_model_ready("m", "")
        assert not await link.is_model_ready("other", "")


async def test_it_predicts_once_it_has_measured_enough() -> None:
    async with serving(Echo()) as port, gateway(port) as link:
        for _ in range(MIN_ANSWERS):
            assert link.state(time.monotonic(), "m").predicted_s is None
            await link.infer(REQUEST)
        state = link.state(time.monotonic(), "m")
        assert state.predicted_s is not None
        assert state.typical_s is not None
        assert 0 < state.typical_s <= state.predicted_s
        assert link.state(time.monotonic(), "another").predicted_s is None, "models take different times"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidInputError("x"), InvalidInputError),
        (ExecutionError("x"), PeerFailedError),
        (ModelNotFoundError("x"), ModelNotFoundError),
    ],
)
async def test_an_answer_that_is_an_error_keeps_the_breaker_closed(
    error: EdgewardError, expected: type[EdgewardError]
) -> None:
    async with serving(Echo(error)) as port, gateway(port) as link:
        for _ in range(HASTY.failures_to_open * 3):
            with pytest.raises(expected):
                await link.infer(REQUEST)
        assert link.state(time.monotonic()).is_permitted


async def test_a_refused_key_is_the_agents_trouble_not_the_callers() -> None:
    async with serving(Echo(), wants_key=True) as port:
        async with gateway(port, "another-key-0123456789") as link:
            with pytest.raises(PeerFailedError, match="refuses this agent's API key"):
                await link.infer(REQUEST)
            told = await link.describe()  # health is open to everybody, so only the error tells of the key
            assert told["is_reachable"] is True
            assert "the API key is not known" in str(told["last_error"])
        async with gateway(port, "a-good-key-0123456789") as link:
            await link.infer(REQUEST)


@pytest.mark.slow
async def test_it_opens_on_an_outage_and_watching_closes_it_without_a_request() -> None:
    async with AsyncExitStack() as stack:
        async with serving(Echo()) as port:
            link = await stack.enter_async_context(gateway(port))
            await link.infer(REQUEST)
        watch = asyncio.create_task(link.watch())
        for _ in range(HASTY.failures_to_open):
            with pytest.raises(PeerUnreachableError):
                await link.infer(REQUEST)
        told = await link.describe()
        assert told["is_reachable"] is False
        assert told["breaker"] != "closed"
        assert str(port) in str(told["last_error"])
        async with serving(Echo(), port):
            async with asyncio.timeout(30):
                while (await link.describe())["breaker"] != "closed":  # noqa: ASYNC110  (what a person would do)
                    await asyncio.sleep(0.02)
            await link.infer(REQUEST)
            assert (await link.describe())["recent_answers"] == 1, "what was before the outage is forgotten"
        watch.cancel()


@pytest.mark.slow
async def test_a_gateway_that_is_not_there_at_the_start_is_not_asked_until_it_is() -> None:
    async with AsyncExitStack() as stack:
        async with serving(Echo()) as port:
            pass
        link = await stack.enter_async_context(gateway(port))
        watch = asyncio.create_task(link.watch())
        await until(lambda: not link.state(time.monotonic()).is_permitted)
        async with serving(Echo(), port):
            await until(lambda: str(link._breaker.verdict(time.monotonic()).state) == "closed")
            await link.infer(REQUEST)
        watch.cancel()


async def test_a_gateway_that_is_not_ready_is_said_to_be_so() -> None:
    service = Echo()
    service.is_up = False
    async with serving(service) as port, gateway(port) as link:
        told = await link.describe()
    assert told["is_reachable"] is False
    assert "not ready for requests" in str(told["probe_error"])


@pytest.mark.slow
async def test_behind_an_open_breaker_nothing_is_sent() -> None:
    async with serving(Echo()) as port:
        pass
    async with gateway(port, breaker=BreakerSettings(failures_to_open=1, open_s=60, open_cap_s=60)) as link:
        with pytest.raises(PeerUnreachableError):
            await link.infer(REQUEST)
        assert "the breaker is open" in link.state(time.monotonic()).detail
        async with serving(Echo(), port) as _:
            with pytest.raises(PeerUnreachableError, match="the breaker is open"):
                await link.infer(REQUEST)


@pytest.mark.slow
async def test_a_deadline_that_was_too_short_for_a_model_does_not_open_the_breaker() -> None:
    service = Echo()
    service.is_silent = True
    async with serving(service) as port, gateway(port) as link:
        watch = asyncio.create_task(link.watch())
        for _ in range(HASTY.failures_to_open * 2):
            late = InferenceRequest("m", REQUEST.inputs, deadline=time.monotonic() + PATIENT_S)
            with pytest.raises(DeadlineExceededError):
                await link.infer(late)
        told = await link.describe()
        assert told["recent_answers"] == HASTY.failures_to_open * 2, "it took at least so long"
        assert told["breaker"] == "closed", "it says that it is ready, so the link is well"
        watch.cancel()


@pytest.mark.slow
async def test_a_silence_of_everything_opens_the_breaker_and_what_was_withdrawn_counts_too() -> None:
    async with serving(Echo()) as port, ChaosProxy("127.0.0.1", port) as proxy, gateway(proxy.port) as link:
        for _ in range(20):
            await link.infer(REQUEST)
        watch = asyncio.create_task(link.watch())
        proxy.link = Link(is_blackhole=True)
        asked = asyncio.create_task(link.infer(InferenceRequest("m", REQUEST.inputs)))
        await asyncio.sleep(PATIENT_S)
        asked.cancel()
        await until(lambda: not link.state(time.monotonic()).is_permitted)
        proxy.link = Link()
        await until(lambda: link.state(time.monotonic()).is_permitted)
        await link.infer(REQUEST)
        watch.cancel()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  (what a person would do)
            await asyncio.sleep(0.02)


ALL = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EdgewardError)]


@pytest.mark.parametrize("cls", ALL)
def test_only_silence_and_unavailability_count_against_the_link(cls: type[EdgewardError]) -> None:
    expected = {
        PeerUnreachableError: Outcome.FAILURE,
        DeadlineExceededError: Outcome.SILENCE,
        errors.CancelledError: Outcome.UNKNOWN,
    }
    assert outcome_of(cls("text"), 1.0) is expected.get(cls, Outcome.SUCCESS)


def test_a_caller_in_a_hurry_says_nothing_about_the_link() -> None:
    assert outcome_of(DeadlineExceededError("late"), FAIR_WAIT_S / 2) is Outcome.UNKNOWN
