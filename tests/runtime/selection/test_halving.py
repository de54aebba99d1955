"""The schedule of measuring, with a clock and candidates that exist only here."""

import random

import pytest

from runtime.selection.halving import FINALISTS, MIN_FINAL_TURNS, Halving, Turn

TRUE_MS = {f"c{i}": 0.5 * 1.08**i for i in range(13)}


class Simulated:
    """Candidates with noisy latencies on a clock that only measuring moves; every turn costs `overhead_s` more."""

    def __init__(self, true_ms: dict[str, float], seed: int, noise: float, overhead_s: float = 0.005) -> None:
        self.now = 100.0
        self.turns: list[Turn] = []
        self._true_ms = true_ms
        self._noise = noise
        self._overhead_s = overhead_s
        self._random = random.Random(seed)

    def run(self, budget_s: float, seed: int = 0, fails: str | None = None) -> Halving:
        rough = {key: ms * self._random.uniform(0.8, 1.6) for key, ms in self._true_ms.items()}
        halving = Halving(rough, budget_s, seed, self.now)
        while (turn := halving.next(self.now)) is not None:
            self.turns.append(turn)
            if turn.key == fails and turn.round == 2:
                halving.fail(turn.key)
                continue
            halving.record(turn, self._measure(turn))
        return halving

    def _measure(self, turn: Turn) -> list[float]:
        # A machine has moments: the whole turn is slower, and single calls are.
        moment = 1 + abs(self._random.gauss(0, self._noise))
        calls: list[float] = []
        while not calls or sum(calls) < 1000 * turn.duration_s:
            calls.append(self._true_ms[turn.key] * moment * (1 + abs(self._random.gauss(0, self._noise))))
        self.now += sum(calls) / 1000 + self._overhead_s
        return calls


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_it_finds_the_best_or_one_as_good(noise: float) -> None:
    regrets = []
    for seed in range(20):
        halving = Simulated(TRUE_MS, seed, noise).run(3.0, seed)
        regrets.append(TRUE_MS[halving.survivors[0]] / min(TRUE_MS.values()) - 1)
    assert sorted(regrets)[10] <= 0.01
    assert max(regrets) <= 0.09  # at worst the neighbour, 8 % slower


@pytest.mark.parametrize("budget_s", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("scale", [1, 10, 100])
def test_the_budget_is_kept_to_within_one_turn(budget_s: float, scale: int) -> None:
    slow = {key: ms * scale for key, ms in TRUE_MS.items()}
    simulated = Simulated(slow, 1, 0.05)
    simulated.run(budget_s)
    longest_s = max(slow.values()) / 1000 * 2 + 0.025
    assert simulated.now - 100.0 <= budget_s + longest_s


def test_who_cannot_be_told_from_the_fastest_survives_a_halving() -> None:
    """Of six three would stay, but four are alike."""
    noise = random.Random(1)
    ms = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 3.0, "f": 3.0}
    halving = Halving(ms, 6.0, 0, 0.0)
    now = 0.0
    while (turn := halving.next(now)) is not None and turn.round == 1:
        now += turn.duration_s
        halving.record(turn, [ms[turn.key] * noise.uniform(0.8, 1.2)])
    assert len(halving.survivors) == 4
    assert set(halving.survivors) == {"a", "b", "c", "d"}


def test_turns_are_interleaved_and_losers_get_fewer() -> None:
    simulated = Simulated(TRUE_MS, 2, 0.02)
    halving = simulated.run(3.0)
    first = [turn.key for turn in simulated.turns[:13]]
    assert sorted(first) == sorted(TRUE_MS)
    assert first != list(TRUE_MS)
    assert len(halving.turns_of("c0")) > 2 * len(halving.turns_of("c12"))
    assert {turn.round for turn in simulated.turns} == {1, 2, 3, 4}  # 13, 7, 4, 2
    assert len(halving.survivors) == FINALISTS


def test_the_same_seed_gives_the_same_schedule() -> None:
    one, same, other = (Simulated(TRUE_MS, 5, 0.05) for _ in range(3))
    one.run(1.0, seed=1)
    same.run(1.0, seed=1)
    other.run(1.0, seed=2)
    assert one.turns == same.turns
    assert one.turns != other.turns


def test_one_candidate_is_measured_briefly() -> None:
    simulated = Simulated({"only": 0.2}, 1, 0.05)
    assert simulated.run(3.0).survivors == ("only",)
    assert len(simulated.turns) == MIN_FINAL_TURNS


def test_a_clear_lead_ends_it_early_and_a_close_race_uses_the_time() -> None:
    clear, close = Simulated({"a": 1.0, "b": 2.5}, 1, 0.02), Simulated({"a": 1.0, "b": 1.002}, 1, 0.1)
    clear.run(3.0)
    close.run(3.0)
    assert clear.now - 100 < 1.0
    assert close.now - 100 > 2.9


def test_a_neighbour_that_takes_a_core_for_a_while_settles_nothing() -> None:
    """Two threads are faster than one while both cores are theirs, which for the first half second they are not."""
    now, true_ms = 0.0, {"one thread": 1.2, "two threads": 1.0}
    halving = Halving(true_ms, 2.0, 0, now)
    while (turn := halving.next(now)) is not None:
        ms = 1.5 if turn.key == "two threads" and now < 0.5 else true_ms[turn.key]
        halving.record(turn, [ms] * 20)
        now += 0.03
    assert halving.survivors[0] == "two threads"


def test_who_has_shared_three_passes_is_not_told_apart_however_many_turns_each_had() -> None:
    passes: set[int] = set()
    halving = Halving({"a": 1.0, "b": 1.1}, 10.0, 0, 0.0)
    now = 0.0
    while now < 6.0 and (turn := halving.next(now)) is not None:
        now += 0.05
        passes.add(halving._pass)
        if len(passes) <= 3 or (turn.key == "a") is (len(passes) % 2 == 0):
            halving.record(turn, [{"a": 1.0, "b": 1.1}[turn.key]] * 20)
    assert now >= 6.0, "settled by a lag without an error"
    assert min(len(halving.turns_of(key)) for key in "ab") > MIN_FINAL_TURNS


def test_who_was_dropped_is_told_at_the_moments_of_the_fastest() -> None:
    """The first round falls into a quiet moment, all others into a busy one."""
    now, true_ms = 0.0, {f"c{i}": 1.06**i for i in range(8)}
    halving = Halving(true_ms, 3.0, 0, now)
    while (turn := halving.next(now)) is not None:
        ms = true_ms[turn.key] * (1.0 if turn.round == 1 else 2.0)
        halving.record(turn, [ms] * 9 + [1.5 * ms])
        now += 0.03
    figures = halving.figures()
    assert next(iter(figures)) == "c0"
    first, _ = figures["c0"]
    for key, (latency, lag_error) in figures.items():
        assert latency.median_ms / first.median_ms == pytest.approx(true_ms[key])
        assert latency.p95_ms / first.p95_ms == pytest.approx(true_ms[key])
        assert lag_error == pytest.approx(0.0)
    assert set(figures) == set(true_ms)
    assert len(halving.turns_of("c7")) < len(halving.turns_of("c0"))


def test_where_all_finalists_fail_the_last_that_were_dropped_are_told() -> None:
    halving = Halving({f"c{i}": 1.3**i for i in range(5)}, 3.0, 0, 0.0)
    now = 0.0
    while (turn := halving.next(now)) is not None:
        now += 0.02
        if turn.round == 3:
            halving.fail(turn.key)
        else:
            halving.record(turn, [1.3 ** int(turn.key[1])])
    assert halving.survivors == ()
    assert list(halving.figures()) == ["c2", "c3", "c4"]


def test_who_fails_is_out_and_the_rest_go_on() -> None:
    simulated = Simulated(TRUE_MS, 3, 0.02)
    halving = simulated.run(3.0, fails="c0")
    assert halving.survivors[0] == "c1"
    assert sum(turn.key == "c0" and turn.round >= 2 for turn in simulated.turns) == 1


def test_everyone_failing_ends_it() -> None:
    halving = Halving({"a": 1.0, "b": 2.0}, 3.0, 0, 0.0)
    while (turn := halving.next(0.0)) is not None:
        halving.fail(turn.key)
    assert halving.survivors == ()


def test_nobody_to_measure_ends_at_once() -> None:
    assert Halving({}, 3.0, 0, 0.0).next(0.0) is None


def test_calls_longer_than_the_budget_are_not_started() -> None:
    halving = Halving({"slow": 5000.0, "slower": 9000.0}, 3.0, 0, 0.0)
    assert halving.next(0.0) is None
    assert halving.survivors == ("slow", "slower")  # by their trial


def test_a_slow_one_does_not_keep_the_fast_from_being_measured() -> None:
    simulated = Simulated({"fast": 1.0, "slow": 5000.0}, 1, 0.02)
    assert simulated.run(3.0).survivors[0] == "fast"
    assert {turn.key for turn in simulated.turns} == {"fast"}
