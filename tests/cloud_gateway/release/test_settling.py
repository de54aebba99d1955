"""All traffic on the candidate, with real guards: what stable is given beside it decides, and no traffic decides nothing."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.guards import GuardWatch
from cloud_gateway.release.steps import Command
from runtime.engine.model import Model
from runtime.wire.values import InferenceRequest, RequestedOutput
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, row
from tests.cloud_gateway.release.gateways import PATIENCE_S, Gateway, Stock, gateway, plan

BLUE_GREEN = 'strategy = "blue_green"\nkeep_warm_s = 20\n'
ROUND = 40
MOST_ROUNDS = 100


async def asked_until(one: Gateway, is_so: Callable[[dict[str, Any]], bool], failing: int = 0) -> dict[str, Any]:
    """Asks round by round, `failing` of each as the fragile candidate fails, until the status is so."""
    for _ in range(MOST_ROUNDS):
        await asyncio.gather(one.ask(ROUND - failing), one.ask(failing, index=PICK_FAILS_ON_SMALL_TABLES))
        await have_compared(one)
        await one.tick()
        told = await one.controller.describe("small")
        if is_so(told):
            return told
    pytest.fail(f"it never came to that: {told}")


async def have_compared(one: Gateway) -> None:
    """Until the mirror has nothing left to do: drops would make the count of rounds a matter of luck."""
    mirror = one.traffic.active["small"].mirror
    assert mirror is not None
    for _ in range(int(PATIENCE_S / 0.01)):
        if not mirror.waiting:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the mirror never came to its end")


async def test_without_a_request_it_holds_for_good_and_says_how_many_are_needed(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        await one.controller.start(plan(more=BLUE_GREEN))
        for _ in range(30):
            await one.tick(5)
        held = one.controller.status("small")
        assert (held["status"], held["is_alive"]) == ("settling", True)
        assert held["needed"] == 16_000
        assert "not enough evidence for error_rate: about 16,000 requests more are needed" in held["reason"]
        assert one.engine.versions("small") == [1, 2], "the way back is still one step"
        ended = await one.controller.command("small", Command.PROMOTE, "nobody asks it anything")
        assert ended["status"] == "promoted"
        assert "without waiting for the guards" in ended["reason"]


async def test_a_good_one_is_promoted_by_what_stable_answered_beside_it(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        more = BLUE_GREEN + 'control_share = 100\n[[guards]]\nmetric = "error_rate"\nmargin = 0.1'
        await one.controller.start(plan(more=more))
        for _ in range(6):
            await one.tick(5)
        assert one.controller.status("small")["status"] == "settling"
        ended = await asked_until(one, lambda told: not told["is_alive"])
        assert ended["status"] == "promoted"
        document = json.loads(one.store.audit()[-1].document)
        (finding,) = document["verdict"]["findings"]
        assert finding["stable_count"] == finding["candidate_count"] > 0
        assert await one.versions_told() == {"2"}


async def test_one_that_fails_for_three_in_ten_is_rolled_back(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        await one.controller.start(plan(5, more=BLUE_GREEN))
        ended = await asked_until(one, lambda told: not told["is_alive"], failing=ROUND * 3 // 10)
        assert ended["status"] == "rolled_back"
        assert "worse than tolerated" in ended["reason"]
        document = json.loads(one.store.audit()[-1].document)
        assert document["bad_predictions"] > 0
        assert await one.versions_told() == {"1"}


async def test_the_last_stretch_of_a_canary_is_watched_too(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        more = 'stages = [50, 100]\nhold_s = 0\nkeep_warm_s = 86400\n[[guards]]\nmetric = "error_rate"\nmargin = 0.2'
        await one.controller.start(plan(5, more=more))
        await asked_until(one, lambda told: told["status"] == "settling")
        ended = await asked_until(one, lambda told: not told["is_alive"], failing=ROUND // 2)
        assert ended["status"] == "rolled_back"


class Ticking:
    """A version that takes 1, 2 or 3 times as long as it is told to, in turns, on a clock that only runs move."""

    now = 0.0

    def __init__(self, real: Model, takes_s: float) -> None:
        self._real = real
        self._takes_s = itertools.cycle([takes_s, 2 * takes_s, 3 * takes_s])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def predict(self, inputs: Any) -> Any:
        Ticking.now += next(self._takes_s)
        return self._real.predict(inputs)

    @classmethod
    def perf_counter(cls) -> float:
        return cls.now


@pytest.fixture
def clock_of_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("cloud_gateway.release.beside.time", Ticking)
    yield
    Ticking.now = 0.0


@pytest.mark.usefixtures("clock_of_runs")
async def test_one_that_is_three_times_slower_is_rolled_back(stock: Stock, file: Path) -> None:
    more = BLUE_GREEN + '[[guards]]\nmetric = "latency"\nquantile = 0.5\nmargin = 0.2'
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        await one.controller.start(plan(more=more))
        beside: Any = one.traffic.active["small"].mirror._beside  # type: ignore[union-attr]
        beside._stable, beside._candidate = Ticking(beside._stable, 0.002), Ticking(beside._candidate, 0.006)
        ended = await asked_until(one, lambda told: not told["is_alive"])
        assert ended["status"] == "rolled_back"
        assert "latency p50" in ended["reason"]


async def test_answers_in_words_are_compared_for_errors_alone(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        guards = "".join(f'[[guards]]\nmetric = "{name}"\nmargin = 0.1\n' for name in ("error_rate", "disagreement"))
        await one.controller.start(plan(more=BLUE_GREEN + "control_share = 100\n" + guards))
        wanted = (RequestedOutput("scores", {"classification": 1}),)
        for _ in range(30):
            await one.service.infer(InferenceRequest("small", row(), outputs=wanted))
        await have_compared(one)
        for _ in range(int(PATIENCE_S / 0.05)):
            await one.tick(0.01)
            errors, answers = one.controller.status("small")["verdict"]["findings"]
            if errors["stable_count"] == 30:
                break
            await asyncio.sleep(0.05)
        assert (errors["stable_count"], errors["candidate_count"], answers["candidate_count"]) == (30, 30, 0)


async def test_labels_are_held_against_both_versions(stock: Stock, file: Path) -> None:
    async with gateway(stock, file, watch_type=GuardWatch) as one:
        answers: list[Any] = []
        one.traffic.on_answer = answers.append
        more = BLUE_GREEN + 'control_share = 100\n[[guards]]\nmetric = "loss"\nmargin = 0.1'
        await one.controller.start(plan(more=more))
        await one.ask(20)
        for _ in range(int(PATIENCE_S / 0.05)):
            await one.tick(0.01)
            if len(answers) == 40:
                break
            await asyncio.sleep(0.05)
        told = {(answer.version, str(answer.arm), answer.is_shadow) for answer in answers}
        assert told == {("2", "candidate", False), ("1", "stable", True)}
