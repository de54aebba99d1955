"""Tests that may be looked at after every observation: e-processes and confidence sequences, numbers in and evidence out.

Every one takes O(1) time and memory for an observation, knows no clock, and gives its state as JSON. An e-process starts at 1; if
what it tests against were so, it would ever reach 1 / alpha with probability alpha at most (Ville's inequality), so stopping as
soon as it does is no peeking. Weighted means of e-processes are e-processes: so several share one alpha.
"""

from runtime.sequential.asymptotic import AsymptoticMean
from runtime.sequential.betting import BettingMixture, BettingMixtures
from runtime.sequential.discordant import DiscordantPairs
from runtime.sequential.empirical_bernstein import EmpiricalBernstein
from runtime.sequential.histogram import LogHistogram
from runtime.sequential.limits import FailureLimits, failure_limits
from runtime.sequential.needed import observations_needed
from runtime.sequential.pairing import Pair, Pairing
from runtime.sequential.sample_ratio import SampleRatio

__all__ = [
    "AsymptoticMean",
    "BettingMixture",
    "BettingMixtures",
    "DiscordantPairs",
    "EmpiricalBernstein",
    "FailureLimits",
    "LogHistogram",
    "Pair",
    "Pairing",
    "SampleRatio",
    "failure_limits",
    "observations_needed",
]
