"""`edgeward` that keeps nothing but the protocol's own totals: `python -m benchmarks.monitoring.bare_server serve digits ...`.

There is no setting for that: how latencies spread is always kept. The benchmark of what monitoring costs compares with this.
"""

from __future__ import annotations

from functools import partial

from runtime.serving import scheduler
from runtime.serving.statistics import Statistics


def main() -> None:
    """The command line, with schedulers that keep no histograms."""
    from edgeward import main as command_line

    vars(scheduler)["Statistics"] = partial(Statistics, latencies=None)
    command_line()


if __name__ == "__main__":
    main()
