"""What a server is doing now, and how its requests ended badly: counted where every transport passes. Used on the event loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from runtime.errors import EdgewardError
from runtime.telemetry.exposition import Family, Kind


class Load:
    """Running totals of one server."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.answered = 0
        self._errors: Counter[tuple[str, bool]] = Counter()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """One inference, until its answer is encoded: answered, unless it raises."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
        self.answered += 1

    def note_error(self, error: BaseException) -> None:
        """One inference that ended in `error` for its caller, whoever found it: the transport, the model or the cloud."""
        is_ours = isinstance(error, EdgewardError)
        self._errors[type(error).__name__ if is_ours else "Unforeseen", is_ours and _may_retry(error)] += 1

    def families(self) -> Sequence[Family]:
        """As metrics. No model names: a caller chooses what it asks for, and could fill a dashboard with names."""
        return [
            Family(
                "edgeward_requests_in_flight", Kind.GAUGE, "Requests that are being answered.", [({}, self.in_flight)]
            ),
            Family(
                "edgeward_inferences_total",
                Kind.COUNTER,
                "Inferences that were answered, here or by another machine.",
                [({}, self.answered)],
            ),
            Family(
                "edgeward_errors_total",
                Kind.COUNTER,
                "Inferences that ended in an error, by its class.",
                [
                    ({"error": name, "retryable": str(may_retry).lower()}, count)
                    for (name, may_retry), count in sorted(self._errors.items())
                ],
            ),
        ]


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, EdgewardError) and error.retryable
