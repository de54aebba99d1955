"""The whole comparison: ours, the baselines and the peers that can be had here, measured and written down."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environments import InstallError, python_of
from benchmarks.serving import calibrated, h2load
from benchmarks.serving.contestants import (
    GRPC_ECHO,
    Contestant,
    as_calibrated,
    baselines,
    foreign,
    ours,
    with_two_workers,
)
from benchmarks.serving.endurance import endure
from benchmarks.serving.exchange import Row
from benchmarks.serving.identity import write_identity
from benchmarks.serving.reasons import publishable
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import RAW, Outcome, Plan, Progress, measure
from runtime import config
from runtime.bundle.bundle import sha256_of
from runtime.bundle.locate import shipped_bundles
from runtime.errors import MachineError

RESULTS = ROOT / "benchmarks" / "results"
BUNDLE, VARIANT = "digits", "variants/fp32.onnx"


@dataclass(frozen=True, slots=True)
class Extras:
    """What is measured beside one row a request."""

    identity_rounds: int = 0
    """Rounds with the 602 KB tensor; 0: not measured."""
    endurance_requests: int = 0
    """Requests over which memory is watched; 0: not measured."""
    endurance_limit_s: float = 240.0


def compare(
    plan: Plan,
    progress: Progress,
    *,
    peers: Sequence[Peer] = PEERS,
    folder: Path = RESULTS,
    name: str = "serving",
    extras: Extras = Extras(),
) -> tuple[Results, Path]:
    """Installs what is not installed yet, measures, writes `name`.json and `name`.md under `folder`; the path is the Markdown's.

    On Ctrl-C what was measured is written, and says so. `MachineError` without h2load.
    A peer that cannot be had or does not answer rightly is in the table with the reason.
    """
    if (absent := h2load.why_absent()) is not None:
        raise MachineError(absent)
    environment, row = read_environment(), Row.of_digits()
    pythons, missing = _environments(peers, progress)
    identity: Outcome | None = None
    with tempfile.TemporaryDirectory(prefix="edgeward-serving-") as folder_of_this_run:
        scratch = Path(folder_of_this_run)
        model = scratch / f"{BUNDLE}.onnx"  # a bare file's name is its stem
        shutil.copyfile(shipped_bundles()[BUNDLE] / VARIANT, model)
        mine = ours(model, row, scratch)
        progress("calibration", 0.0)
        chosen = calibrated.choose(BUNDLE, config.home())
        contestants: list[Contestant] = [*mine, *as_calibrated(BUNDLE, row, config.home())]
        contestants += [*with_two_workers(model, row, scratch), *baselines(model, row)]
        for peer, python in pythons:
            exchange = peer.exchange(row)
            contestants.append(foreign(peer.name, python, peer.script, model, exchange, is_restless=peer.is_restless))
        digest = sha256_of(model)
        outcome = measure(contestants, model, plan, scratch, progress)
        outcome = replace(outcome, missing={**missing, **outcome.missing})
        lasting = None
        try:
            if extras.identity_rounds and not outcome.was_stopped:
                identity = _identity(plan, extras, pythons, scratch, progress)
            if extras.endurance_requests and not (outcome.was_stopped or (identity and identity.was_stopped)):
                lasting = endure(mine[0], extras.endurance_requests, extras.endurance_limit_s, scratch, progress)
        except KeyboardInterrupt:
            outcome = replace(outcome, was_stopped=True)
    protocols = {RAW: "in process", **{each.name: each.exchange.protocol for each in contestants}}
    results = Results(outcome, plan, environment, now_utc(), digest, protocols, identity, lasting, chosen)
    _, text = results.write(folder, name)
    return results, text


def _environments(peers: Sequence[Peer], progress: Progress) -> tuple[list[tuple[Peer, Path]], dict[str, str]]:
    """The interpreters of the peers that can be had, and why the others cannot."""
    found: list[tuple[Peer, Path]] = []
    missing: dict[str, str] = {}
    for peer in peers:
        progress(f"environment of {peer.name}", 0.0)
        try:
            found.append((peer, python_of(peer, config.home() / "peers")))
        except InstallError as error:
            missing[peer.name] = publishable(str(error))
    return found, missing


def _identity(
    plan: Plan, extras: Extras, pythons: Sequence[tuple[Peer, Path]], scratch: Path, progress: Progress
) -> Outcome:
    model, row = write_identity(scratch), Row.of_identity()
    contestants = [*ours(model, row, scratch), *(each for each in baselines(model, row) if each.name == GRPC_ECHO)]
    for peer, python in pythons:
        if peer.identity is not None:
            exchange = peer.identity(row)
            contestants.append(foreign(peer.name, python, peer.script, model, exchange, is_restless=peer.is_restless))
    short = Plan(extras.identity_rounds, plan.seconds, (1, 8), plan.seed, has_raw=False)
    return measure(contestants, model, short, scratch, progress)
