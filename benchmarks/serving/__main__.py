"""`python -m benchmarks.serving --rounds N`: the comparison without a command-line library, for machines that only measure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.peers.catalogue import PEERS
from benchmarks.serving.rounds import Plan
from benchmarks.serving.run import RESULTS, Extras, compare
from runtime.errors import EdgewardError


def main() -> int:
    """Measures and prints the tables; 1 when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--seconds", type=float, default=Plan().seconds, help="of one measurement")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS), help="names, separated by commas")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--name", default="serving", help="of the two files written there")
    parser.add_argument("--open-rounds", type=int, default=3, help="rounds at 70 %% of the saturated rate")
    parser.add_argument("--identity-rounds", type=int, default=3, help="rounds with 602 KB tensors")
    parser.add_argument("--endurance", type=int, default=1_000_000, help="requests over which memory is watched")
    parser.add_argument("--endurance-limit", type=float, default=240.0, help="seconds that they may take")
    given = parser.parse_args()
    chosen = [peer for peer in PEERS if peer.name in given.peers.split(",")]
    plan = Plan(rounds=given.rounds, seconds=given.seconds, open_rounds=given.open_rounds)
    extras = Extras(given.identity_rounds, given.endurance, given.endurance_limit)
    try:
        _, text = compare(plan, _progress, peers=chosen, folder=given.out, name=given.name, extras=extras)
    except EdgewardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text.read_text(), end="")
    return 0


def _progress(what: str, share: float) -> None:
    print(f"{share:4.0%} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
