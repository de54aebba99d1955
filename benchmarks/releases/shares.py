"""S1 to S5: errors of two arms, and pairs that answered the same request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.releases.outcomes import NEVER, Floats, Ints, Row, information_floor, row
from benchmarks.releases.rules import (
    WINDOW,
    argo,
    flagger,
    peeking_mcnemar,
    peeking_non_inferiority,
    peeking_z,
)
from runtime.sequential import BettingMixtures, DiscordantPairs

ALPHA = 0.05
OURS = "Edgeward"
S1_REQUESTS = 5000
S2_REQUESTS = 5000
S3_REQUESTS = 3000
S4_CASES = 10_000
WINDOW_RULES = (flagger(0.025), argo(0.025))
"""What looks at the share of a window's cases where the candidate alone is wrong, 1 % or 4 %."""
LABELLED_RUNS = 1000
"""At once: each has its labels' times in memory."""


def no_difference(runs: int, seed: int) -> Iterator[Row]:
    """S1: both arms fail alike; whoever rolls back is wrong. A request of each arm at a time, `S1_REQUESTS` each."""
    for base in (0.005, 0.01, 0.02, 0.05, 0.1):
        yield from two_arms("S1", f"{base:.1%}", base, base, S1_REQUESTS, runs, seed)


def worse_candidate(runs: int, seed: int) -> Iterator[Row]:
    """S2: the candidate fails more often; requests of each arm until it is rolled back, and errors that it caused by then."""
    for base, harm in ((0.05, 0.08), (0.01, 0.03)):
        yield from two_arms("S2", f"{base:.0%} → {harm:.0%}", base, harm, S2_REQUESTS, runs, seed)


def two_arms(scenario: str, case: str, base: float, harm: float, requests: int, runs: int, seed: int) -> Iterator[Row]:
    """Every rule on the same errors."""
    rng = np.random.default_rng([seed, int(base * 1e4), int(harm * 1e4)])
    mixture = BettingMixtures(0.0, -1.0, runs)
    ours = np.full(runs, NEVER)
    windows: list[tuple[Ints, Ints]] = []
    for start in range(0, requests, WINDOW):
        stable, candidate = (rng.random((WINDOW, runs), np.float32) < share for share in (base, harm))
        for step in range(WINDOW):
            mixture.observe(candidate[step].astype(np.float64) - stable[step])
            ours[(ours == NEVER) & (mixture.e_values >= 1 / ALPHA)] = start + step + 1
        windows.append((stable.sum(0), candidate.sum(0)))
    stable_bad, candidate_bad = (np.stack([window[side] for window in windows], 1) for side in (0, 1))
    at = WINDOW * np.arange(1, len(windows) + 1)
    floor = None if harm == base else information_floor(np.array([base, 1 - base]), np.array([harm, 1 - harm]))
    none = np.full(runs, NEVER)
    outcomes = {
        OURS: (ours, none),
        "z-test at every look": (peeking_z(candidate_bad.cumsum(1), stable_bad.cumsum(1), at), none),
    }
    fair = base + (0.01 if harm == base else (harm - base) / 2)
    for rule in (flagger(), argo(), flagger(fair), argo(fair)):
        outcomes[rule.name] = rule.apply(candidate_bad)
    for name, (back, promoted) in outcomes.items():
        served = np.where(back == NEVER, requests, back)
        extra = {"promoted": float((promoted != NEVER).mean())}
        if harm > base:
            # A candidate that was promoted answers everything from there on.
            after = np.where(promoted == NEVER, 0, 2 * (requests - promoted))
            before = np.where(promoted == NEVER, served, promoted)
            extra["excess_bad"] = float(((before + after) * (harm - base)).mean())
        yield row(scenario, name, case, back, floor, extra)


def pair_hits(
    worse: float, better: float, null: float, cases: int, runs: int, rng: np.random.Generator
) -> tuple[Ints, list[Ints]]:
    """Cases until the bets against "the mean harm is at most `null`" decide, and the counts at every look.

    A negative null is non-inferiority: the harm counts with the other sign, as in the guards.
    """
    sign = 1.0 if null >= 0 else -1.0
    mixture = BettingMixtures(null, -1.0, runs)
    hits = np.full(runs, NEVER)
    counts: list[list[Ints]] = [[], []]
    total = np.zeros((2, runs), np.int64)
    for start in range(0, cases, WINDOW):
        drawn = rng.random((WINDOW, runs), np.float32)
        harm: Floats = (drawn < worse).astype(np.float64) - ((drawn >= worse) & (drawn < worse + better))
        for step in range(WINDOW):
            mixture.observe(sign * harm[step])
            hits[(hits == NEVER) & (mixture.e_values >= 1 / ALPHA)] = start + step + 1
        total = total + np.stack([(harm > 0).sum(0), (harm < 0).sum(0)])
        counts[0].append(total[0])
        counts[1].append(total[1])
    return hits, [np.stack(side, 1) for side in counts]


def paired_shadow(runs: int, seed: int) -> Iterator[Row]:
    """S3: 4 % of the pairs the candidate alone is wrong, 1 % stable alone; and 2.5 % each. Cases until rollback."""
    # A pair has both sides in it, and the second distribution is the first one seen from the other side: half of the growth each.
    floor = 2 * information_floor(np.array([0.04, 0.01, 0.95]), np.array([0.01, 0.04, 0.95]))
    for case, worse, better in (("1 % / 4 %", 0.04, 0.01), ("2.5 % / 2.5 %", 0.025, 0.025)):
        rng = np.random.default_rng([seed, 3, int(worse * 1e4)])
        hits, (counted_worse, counted_better) = pair_hits(worse, better, 0.0, S3_REQUESTS, runs, rng)
        at = WINDOW * np.arange(1, counted_worse.shape[1] + 1)
        held = floor if worse != better else None
        yield row("S3", OURS, case, hits, held)
        yield row("S3", "beta-binomial, closed form", case, closed_form(worse, better, runs, rng), held)
        yield row("S3", "McNemar z at every look", case, peeking_mcnemar(counted_worse, counted_better, at), held)
        yield from by_windows("S3", case, counted_worse, held)


def closed_form(worse: float, better: float, runs: int, rng: np.random.Generator) -> Ints:
    """The same by `DiscordantPairs`, on discordant pairs alone."""
    hits = np.full(runs, NEVER)
    for run in range(runs):
        test, case = DiscordantPairs(), 0
        waits = rng.geometric(worse + better, 400)
        sides = rng.random(400) < worse / (worse + better)
        for wait, is_worse in zip(waits, sides, strict=True):
            case += int(wait)
            if case > S3_REQUESTS:
                break
            test.observe(bool(is_worse))
            if test.e_value >= 1 / ALPHA:
                hits[run] = case
                break
    return hits


def non_inferiority(runs: int, seed: int) -> Iterator[Row]:
    """S4: 10 % disagreement, margin 2 %: cases until promotion at no difference, and how often at a difference of the margin."""
    margin = 0.02
    for case, worse in (("difference 0", 0.05), ("difference 2 %", 0.06)):
        rng = np.random.default_rng([seed, 4, int(worse * 1e4)])
        hits, (counted_worse, counted_better) = pair_hits(worse, 0.1 - worse, -margin, S4_CASES, runs, rng)
        at = WINDOW * np.arange(1, counted_worse.shape[1] + 1)
        floor = 1546.0 if worse == 0.05 else None
        yield row("S4", OURS, case, hits, floor)
        peeked = peeking_non_inferiority(counted_worse, counted_better, at, margin)
        yield row("S4", "z-test at every look", case, peeked, floor)
        fair = 0.05 + margin / 2
        for rule in (flagger(fair), argo(fair)):
            yield row("S4", rule.name, case, rule.apply(windows_of(counted_worse))[1], floor)


def windows_of(counts: Ints) -> Ints:
    """Counts in each window, [run, window], of counts of everything so far."""
    return np.diff(counts, axis=1, prepend=0)


def by_windows(scenario: str, case: str, counted_worse: Ints, floor: float | None) -> Iterator[Row]:
    """Flagger and Argo with a threshold between the two shares of S3, on cases where the candidate alone is wrong."""
    for rule in (flagger(0.025), argo(0.025)):
        back, promoted = rule.apply(windows_of(counted_worse))
        yield row(scenario, rule.name, case, back, floor, {"promoted": float((promoted != NEVER).mean())})


@dataclass(frozen=True, slots=True)
class Labelling:
    """How truth comes: of which share of the requests, and how late."""

    share: float
    delay: int
    """Requests until half of what is labelled is known: each label comes after 0 to twice as many, out of order."""

    def arrivals(self, runs: int, cases: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """[run, label]: the request at which each label comes, in order of coming, and which case it is of."""
        gaps = rng.geometric(self.share, (runs, cases)) if self.share < 1 else np.ones((runs, cases), np.int64)
        at = gaps.cumsum(1) + rng.integers(0, 2 * self.delay + 1, (runs, cases))
        order = np.argsort(at, axis=1, kind="stable")
        return np.take_along_axis(at, order, 1), order


def late_labels(runs: int, seed: int) -> Iterator[Row]:
    """S5: as S3, but labels come late, out of order and for a share of requests; requests until rollback."""
    for worse, better, kind in ((0.04, 0.01, "1 % / 4 %"), (0.025, 0.025, "2.5 % / 2.5 %")):
        for share in (1.0, 0.05, 0.01):
            for delay in (0, 100, 1000):
                rng = np.random.default_rng([seed, 5, int(worse * 1e4), int(share * 100), delay])
                told = [
                    _with_labels(worse, better, Labelling(share, delay), min(runs - done, LABELLED_RUNS), rng)
                    for done in range(0, runs, LABELLED_RUNS)
                ]
                hits, peeked, *windows = (np.concatenate(one) for one in zip(*told, strict=True))
                case = f"{kind}, {share:.0%} labelled, {delay} late"
                floor = 311 / share + delay if worse != better else None
                yield row("S5", OURS, case, hits, floor)
                yield row("S5", "McNemar z at every look", case, peeked, floor)
                for rule, back, on in zip(WINDOW_RULES, windows[::2], windows[1::2], strict=True):
                    yield row("S5", rule.name, case, back, floor, {"promoted": float((on != NEVER).mean())})


def _with_labels(
    worse: float, better: float, labelling: Labelling, runs: int, rng: np.random.Generator
) -> tuple[Ints, ...]:
    """Requests until each run rolled back by our test, by a z-test, and until each of `WINDOW_RULES` rolled back and promoted."""
    drawn = rng.random((runs, S3_REQUESTS), np.float32)
    at, order = labelling.arrivals(runs, S3_REQUESTS, rng)
    harm = (drawn < worse).astype(np.int64) - ((drawn >= worse) & (drawn < worse + better))
    harm = np.take_along_axis(harm, order, 1)
    mixture = BettingMixtures(0.0, -1.0, runs)
    hits = np.full(runs, NEVER)
    for label in range(S3_REQUESTS):
        mixture.observe(harm[:, label].astype(np.float64))
        hits[(hits == NEVER) & (mixture.e_values >= 1 / ALPHA)] = label + 1
        if (hits != NEVER).all():
            break
    looks = WINDOW * np.arange(1, S3_REQUESTS // WINDOW + 1)
    counted_worse, counted_better = ((harm == side).cumsum(1)[:, looks - 1] for side in (1, -1))
    peeked = peeking_mcnemar(counted_worse, counted_better, looks)
    ends = [end for rule in WINDOW_RULES for end in rule.apply(windows_of(counted_worse))]
    return tuple(_at_request(one, at) for one in (hits, peeked, *ends))


def _at_request(labels: Ints, at: Ints) -> Ints:
    """The request at which each run's label number so many came; NEVER stays."""
    found: Ints = at[np.arange(len(at)), np.maximum(labels, 1) - 1]
    return np.where(labels == NEVER, NEVER, found)
