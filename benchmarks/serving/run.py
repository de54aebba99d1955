"""The whole comparison: ours, the baselines and the peers that can be had here, measured and written down."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environments import InstallError, python_of
from benchmarks.serving import h2load
from benchmarks.serving.contestants import Contestant, baselines, foreign, ours
from benchmarks.serving.exchange import Row
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import RAW, Outcome, Plan, Progress, measure
from runtime import config
from runtime.bundle.locate import shipped_bundles
from runtime.errors import MachineError

RESULTS = ROOT / "benchmarks" / "results"
VARIANT = "variants/fp32.onnx"


def compare(
    plan: Plan, progress: Progress, *, peers: Sequence[Peer] = PEERS, folder: Path = RESULTS, name: str = "serving"
) -> tuple[Results, Path]:
    """Installs what is not installed yet, measures, writes `name`.json and `name`.md under `folder`; the path is the Markdown's.

    `MachineError` without h2load. A peer that cannot be had or does not answer rightly is in the table with the reason.
    """
    if (absent := h2load.why_absent()) is not None:
        raise MachineError(absent)
    environment, row = read_environment(), Row.of_digits()
    home = config.home()
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgeward-serving-") as scratch:
        model = Path(scratch) / "digits.onnx"  # a bare file's name is its stem
        shutil.copyfile(shipped_bundles()["digits"] / VARIANT, model)
        contestants: list[Contestant] = [*ours(model, row, Path(scratch)), *baselines(row)]
        for peer in peers:
            progress(f"environment of {peer.name}", 0.0)
            try:
                python = python_of(peer, home / "peers")
            except InstallError as error:
                missing[peer.name] = str(error)
                continue
            exchange = peer.exchange(row)
            contestants.append(foreign(peer.name, python, peer.script, model, exchange, is_restless=peer.is_restless))
        outcome = measure(contestants, model, plan, Path(scratch), progress)
    outcome = Outcome(outcome.samples, {**missing, **outcome.missing})
    results = Results(outcome, plan)
    protocols = {RAW: "in process", **{each.name: each.exchange.protocol for each in contestants}}
    _, text = results.write(folder, name, environment, now_utc(), protocols)
    return results, text
