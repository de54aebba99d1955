"""`edgeward` whose statistics two signals switch on and off: `python -m benchmarks.monitoring.switched_server serve digits ...`.

SIGUSR1 on, SIGUSR2 off. One process is then both arms of a pair: two differ in how memory and batches happen to fall by more than
what is looked for. Off is what a service does that has no observers. Linux alone: the recorder's thread has a name there by which
its own processor time is told.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from runtime.serving.observing.observers import Observers
from runtime.serving.observing.recorder import StatisticsRecorder

THREAD = "statistics"


class _Switch:
    is_on = True

    @classmethod
    def turn(cls, number: int, _: object) -> None:
        """By a signal."""
        cls.is_on = number == signal.SIGUSR1


def main() -> None:
    """The command line, switched."""
    from edgeward import main as command_line

    has_some, run = Observers.__bool__, StatisticsRecorder._run

    def named(recorder: StatisticsRecorder) -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(THREAD, encoding="ascii")
        run(recorder)

    Observers.__bool__ = lambda observers: _Switch.is_on and has_some(observers)  # type: ignore[assignment, method-assign]
    StatisticsRecorder._run = named  # type: ignore[assignment, method-assign]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _Switch.turn)
    command_line()


if __name__ == "__main__":
    main()
