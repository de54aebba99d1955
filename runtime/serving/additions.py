"""What a program adds to its server: routes beside the protocol's, and metrics of parts that serving knows nothing of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime.serving.load import Load
from runtime.serving.metrics.labels import LabelsOf, at_the_edge
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.telemetry.exposition import Collector, Family


def never() -> None:
    """Nothing has to be told that the server stops."""


def ours_alone(families: Sequence[Family]) -> Sequence[Family]:
    """The metrics of a program that is one process."""
    return families


@dataclass(frozen=True, slots=True)
class Additions:
    """What the wiring of a program hands to its server."""

    routes: Sequence[ExtraRoute] = ()
    collectors: Sequence[Collector] = ()
    labels_of: LabelsOf = at_the_edge
    load: Load = field(default_factory=Load)
    """Where the server's transports count."""
    with_others: Callable[[Sequence[Family]], Sequence[Family]] = ours_alone
    """What is told of this process's metrics where several processes answer as one server."""
    on_stop: Callable[[], None] = never
    """Called when the server begins to stop, so that streams which would never end do."""

    async def families(self) -> list[Family]:
        """What the server's transports and the collectors count in this process."""
        handed_in = [family for collector in self.collectors for family in await collector()]
        return [*self.load.families(), *handed_in]
