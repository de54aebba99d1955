"""Which versions of a model are served: the policy as a value, and the choice it makes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from runtime.errors import WrongUseError


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Triton's three policies: the newest so many, some by number, or all."""

    latest: int | None = 1
    specific: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """From "latest", "latest:2", "all" or "specific:1,3"; `WrongUseError` otherwise."""
        kind, _, rest = text.partition(":")
        try:
            if kind == "latest":
                return cls(latest=max(int(rest or 1), 1))
            if kind == "all" and not rest:
                return cls(latest=None)
            if kind == "specific":
                return cls(latest=None, specific=tuple(sorted({int(part) for part in rest.split(",")})))
        except ValueError:
            pass
        raise WrongUseError(
            f"version policy {text!r} is not understood; expected latest, latest:N, all or specific:N,N"
        )

    def __str__(self) -> str:
        if self.specific:
            return f"specific:{','.join(map(str, self.specific))}"
        return "all" if self.latest is None else f"latest:{self.latest}"

    def choose(self, available: Collection[int]) -> list[int]:
        """The versions to serve, lowest first; a specific one that is not there is left out (the caller says so)."""
        if self.specific:
            return [version for version in self.specific if version in available]
        ordered = sorted(available)
        return ordered if self.latest is None else ordered[-self.latest :]
