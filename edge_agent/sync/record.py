"""What is known of one wanted model on this device, and what follows from it: fetch, confirm, roll back. Pure.

A version that was switched to is on trial until it has served for a while. An agent that ends without saying goodbye while one is
on trial counts as its crash; after the second the version before it is taken again, and this one is never fetched again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

MAX_CRASHES: Final = 2
# A version that has served for so long without a crash is no longer on trial.
TRIAL_S: Final = 120.0
# A gateway that offers a hundred broken versions must not grow the file for ever.
MAX_REJECTED: Final = 100
# Of outcomes that the gateway has not been told, in a long time offline.
MAX_UNTOLD: Final = 20


class Outcome(StrEnum):
    """What became of a version here, as the gateway is told."""

    KEPT = "kept"
    REJECTED = "rejected"
    """It failed its check and never served."""
    ROLLED_BACK = "rolled_back"
    """It did not load."""
    CRASHED = "crashed"
    """The agent ended `MAX_CRASHES` times while it was on trial."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A version's trial, which is over."""

    version: int
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A bundle, as a gateway offers it."""

    model: str
    version: int
    digest: str
    """Of the bundle's manifest, which pins all of it."""
    sha256: str
    """Of the tar."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that has not proved itself yet."""

    crashes: int = 0
    is_running: bool = False
    """Whether an agent has loaded it and not said goodbye since."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One wanted model."""

    current: Offer | None = None
    """None: what the agent's settings name."""
    previous: Offer | None = None
    trial: Trial | None = None
    rejected: tuple[str, ...] = ()
    """Digests that failed here."""
    note: str = ""
    """What happened last, for people."""
    untold: tuple[Ended, ...] = ()
    """Trials that ended and that the gateway does not know of yet."""


def wanted(record: ModelRecord, served_digest: str | None, offers: Sequence[Offer]) -> Offer | None:
    """The offer to fetch; None where what is here is what the gateway has newest, of what has not failed here."""
    good = [offer for offer in offers if offer.digest not in record.rejected]
    if not good:
        return None
    newest = max(good, key=lambda offer: offer.version)
    here = record.current.digest if record.current is not None else served_digest
    return None if newest.digest == here else newest


def switched(record: ModelRecord, offer: Offer) -> ModelRecord:
    """`offer` is about to be served: written down before it is, so that a crash while it loads counts."""
    return replace(record, current=offer, previous=record.current, trial=Trial(0, True), note="")


def begun(record: ModelRecord) -> ModelRecord:
    """An agent starts and is about to load the current version; one that has crashed it twice is rolled back here."""
    trial = record.trial
    if trial is None:
        return record
    crashes = trial.crashes + (1 if trial.is_running else 0)
    if crashes >= MAX_CRASHES:
        why = f"the agent ended {crashes} times without saying goodbye while it was on trial"
        return rolled_back(record, why, Outcome.CRASHED)
    return replace(record, trial=Trial(crashes, True))


def proven(record: ModelRecord) -> ModelRecord:
    """Of a record whose changes cannot be written down: what is not on trial."""
    return record if record.trial is None else replace(record, current=record.previous, previous=None, trial=None)


def instead(record: ModelRecord, serving: Offer | None) -> ModelRecord:
    """As it is told while `serving` serves, which is another version where the record could not be written."""
    if serving == record.current:
        return record
    late = "what the settings name" if record.current is None else f"version {record.current.version}"
    note = f"{late} waits for the next pass that can be written down"
    return replace(record, current=serving, previous=None, trial=None, note=note)


def ended_well(record: ModelRecord) -> ModelRecord:
    """The agent was told to end, and did."""
    return record if record.trial is None else replace(record, trial=replace(record.trial, is_running=False))


def confirmed(record: ModelRecord) -> ModelRecord:
    """It has served long enough."""
    if record.trial is None or record.current is None:
        return replace(record, trial=None)
    return replace(record, trial=None, untold=_with(record, Ended(record.current.version, Outcome.KEPT)))


def told(record: ModelRecord, known: Sequence[Ended]) -> ModelRecord:
    """The gateway knows of these."""
    return replace(record, untold=tuple(one for one in record.untold if one not in known))


def _with(record: ModelRecord, ended: Ended) -> tuple[Ended, ...]:
    return (*record.untold, ended)[-MAX_UNTOLD:]


def rejected(record: ModelRecord, offer: Offer, why: str, outcome: Outcome = Outcome.REJECTED) -> ModelRecord:
    """It failed its check, and was never served."""
    return replace(
        record,
        untold=_with(record, Ended(offer.version, outcome, why)),
        rejected=(*record.rejected, offer.digest)[-MAX_REJECTED:],
        note=f"version {offer.version} is not taken: {why}",
    )


def rolled_back(record: ModelRecord, why: str, outcome: Outcome = Outcome.ROLLED_BACK) -> ModelRecord:
    """The version before it is the current one again."""
    assert record.current is not None, "what the settings name has nothing before it"
    return replace(
        rejected(record, record.current, why, outcome),
        current=record.previous,
        previous=None,
        trial=None,
        note=f"rolled back from version {record.current.version}: {why}",
    )
