"""What LoadGen is to do, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.scenarios import DEFAULT_MULTI_ROWS, DEFAULT_OFFLINE_IN_FLIGHT, DEFAULT_OFFLINE_ROWS, Kind
from benchmarks.settings import ANYONE, Access, Setting
from runtime.errors import WrongUseError

# TestSettings' own default; MLPerf asks submitters for 600 s.
DEFAULT_DURATION_S = 10.0
DEFAULT_MIN_QUERIES = 100
DEFAULT_QPS = 100.0
DEFAULT_BOUND_MS = 50.0
WORDING = "measured with MLCommons LoadGen; not an MLPerf result"
OUR_WORDING = "measured with Edgeward's own generator by LoadGen's rules (mlcommons-loadgen is not installed); not an MLPerf result"


class Mode(StrEnum):
    """What LoadGen is asked for: speed, or every sample once."""

    PERFORMANCE = "performance"
    ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a person may choose; the rest, seeds before all, is LoadGen's."""

    duration_s: float = DEFAULT_DURATION_S
    min_queries: int = DEFAULT_MIN_QUERIES
    qps: float = DEFAULT_QPS
    """Of server: the rate of arrivals."""
    bound_ms: float = DEFAULT_BOUND_MS
    """Of server: p99 is to be within it."""
    multi_rows: int = DEFAULT_MULTI_ROWS
    offline_rows: int = DEFAULT_OFFLINE_ROWS
    """Samples that one request to the target carries."""
    in_flight: int = 64
    """Of server: requests at once, at most."""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if min(self.duration_s, self.qps, self.bound_ms, self.timeout_s) <= 0 or self.min_queries < 1:
            raise WrongUseError(
                "duration, rate, bound and timeout are more than 0, queries at least 1; "
                f"got {self.duration_s:g} s, {self.qps:g}/s, {self.bound_ms:g} ms, {self.timeout_s:g} s, {self.min_queries}"
            )

    def rows(self, kind: Kind) -> int:
        """Rows of one request."""
        return {Kind.MULTI: self.multi_rows, Kind.OFFLINE: self.offline_rows}.get(kind, 1)

    def workers(self, kind: Kind) -> int:
        """Requests at once."""
        return {Kind.SERVER: self.in_flight, Kind.OFFLINE: DEFAULT_OFFLINE_IN_FLIGHT}.get(kind, 1)


@dataclass(frozen=True, slots=True)
class Order:
    """One process of LoadGen: one scenario in one mode."""

    setting: Setting
    kind: Kind
    mode: Mode
    rules: Rules
    folder: Path
    """Where LoadGen writes its logs."""
    access: Access = ANYONE
    is_traced: bool = False
    """Whether LoadGen writes its trace too: every step of every query, 300 bytes each."""

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that `json` writes."""
        return {
            "setting": self.setting.to_dict(),
            "kind": self.kind.value,
            "mode": self.mode.value,
            "rules": asdict(self.rules),
            "folder": str(self.folder),
            "access": self.access.to_dict(),
            "is_traced": self.is_traced,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Order:
        """What `to_dict` gave."""
        return cls(
            Setting.from_dict(fields["setting"]),
            Kind(fields["kind"]),
            Mode(fields["mode"]),
            Rules(**fields["rules"]),
            Path(fields["folder"]),
            Access.from_dict(fields["access"]),
            fields["is_traced"],
        )
