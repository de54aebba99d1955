"""What a program has beside the protocol: pages on its HTTP port, and metrics of parts that serving knows nothing of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from runtime.serving.load import Load
from runtime.telemetry.exposition import Collector, Family

Labels = Mapping[str, str]
LabelsOf = Callable[[str, str], Labels]
"""`role` and `served_by` of a model and version, as metrics carry them."""


def at_the_edge(model: str, version: str) -> Labels:
    """The labels of a program without releases that is not the cloud."""
    return {"role": "stable", "served_by": "edge"}


def in_the_cloud(model: str, version: str) -> Labels:
    """The labels of a gateway that releases nothing now."""
    return {"role": "stable", "served_by": "cloud"}


def never() -> None:
    """Nothing has to be told that the server stops."""


def ours_alone(families: Sequence[Family]) -> Sequence[Family]:
    """The metrics of a program that is one process."""
    return families


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One GET route; `is_open`: answered without a key, for a page's own files, which say nothing of this server."""

    path: str
    answer: Callable[[Request], Awaitable[Response]]
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Beside:
    """What the wiring of a program hands to its server."""

    routes: Sequence[PageRoute] = ()
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
