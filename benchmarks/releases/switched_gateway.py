"""`edgeward` whose release three signals take out of callers' way and put back: `python -m benchmarks.releases.switched_gateway`.

One process is then every arm of a comparison: two differ in how memory and batches happen to fall by more than what is looked for.
Without a release requests go to the version that an earlier one left, past all that a running one adds; whoever decides rests too.
"""

from __future__ import annotations

import signal
from typing import Any, Final

from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.controller import ReleaseController
from cloud_gateway.release.service import ReleaseService

PLAIN: Final = signal.SIGUSR1
CANARY: Final = signal.SIGUSR2
SHADOW: Final = signal.SIGWINCH
"""Which needs no terminal here; the canary, and all that stable answers mirrored."""


class Switch:
    """What shares the one `Traffic` of the process, and the one without releases that it is given instead."""

    def __init__(self) -> None:
        self.shared: list[Any] = []
        self.real = Traffic()

    def note(self, part: Any, traffic: Traffic) -> None:
        """A part that looks for releases there."""
        self.shared.append(part)
        self.real = traffic

    def turn(self, number: int, _: object) -> None:
        """By a signal."""
        traffic = Traffic(pins=self.real.pins, log=self.real.log) if number == PLAIN else self.real
        for part in self.shared:
            part._traffic = traffic
        for active in self.real.active.values():
            active.mirrored_share = float(number == SHADOW)


def main() -> None:
    """The command line, switched."""
    from edgeward import main as command_line

    switch = Switch()
    make_service, make_controller = ReleaseService.__init__, ReleaseController.__init__

    def note_service(service: ReleaseService, inner: Any, traffic: Traffic) -> None:
        make_service(service, inner, traffic)
        switch.note(service, traffic)

    def note_controller(
        controller: ReleaseController, store: Any, versions: Any, placement: Any, traffic: Traffic, *rest: Any
    ) -> None:
        make_controller(controller, store, versions, placement, traffic, *rest)
        switch.note(controller, traffic)

    ReleaseService.__init__ = note_service  # type: ignore[assignment, method-assign]
    ReleaseController.__init__ = note_controller  # type: ignore[assignment, method-assign]
    for number in (PLAIN, CANARY, SHADOW):
        signal.signal(number, switch.turn)
    command_line()


if __name__ == "__main__":
    main()
