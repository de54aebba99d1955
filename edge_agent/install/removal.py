"""What uninstalling takes along: the service, and the agent's state where somebody asked for that and nobody still needs it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.home_lock import hold_to_remove, require_free
from edge_agent.install import carry_out
from edge_agent.install.earlier import Earlier
from edge_agent.install.plan import UninstallPlan
from edge_agent.offline import agent_home
from runtime import config
from runtime.errors import ConflictError, WrongUseError

SHARED: Final = ("calibrations", "bundles", "tensorrt")
"""What loading models leaves in EDGEWARD_HOME, whichever program did it; all of it can be measured or unpacked again."""

# A manager says that a service is ended when it has told it to; until its process has, the state is that process's.
END_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class StateWish:
    """What is to become of state, as people say it; `WrongUseError` where that contradicts itself."""

    is_kept: bool
    is_purged: bool
    """Also what other programs share."""
    is_forced: bool
    """Also where requests wait that nobody answered, and where no service is installed."""

    def __post_init__(self) -> None:
        if self.is_kept and self.is_purged:
            raise WrongUseError("--keep-state and --purge are both given; keep the agent's state, or remove everything")


class Removal:
    """Of one service that is there as `earlier` says (None: it is not), and of the state in EDGEWARD_HOME."""

    def __init__(self, plan: UninstallPlan, earlier: Earlier | None, wish: StateWish) -> None:
        self.plan = plan
        self.state = agent_home()
        self.was_installed = earlier is not None
        self._is_running = earlier is not None and earlier.is_running
        self._is_forced = wish.is_forced
        self._takes_state = not wish.is_kept and (self.was_installed or wish.is_purged or wish.is_forced)
        self._folders = [self.state] if self._takes_state else []
        self._folders += _shared() if wish.is_purged else []

    def check(self) -> None:
        """`ConflictError` where requests wait in the spool, or an agent that no service runs has the state; changes nothing."""
        if self._takes_state:
            if not self._is_running:
                require_free(self.state)  # a service that runs is ended first
            self._require_answered()

    def foresee(self) -> list[Path]:
        """What `remove` would remove now."""
        return [path for path in (*map(Path, self.plan.remove), *self._folders) if path.exists()]

    def remove(self) -> list[Path]:
        """Ends the service, and removes; what was there."""
        removed = carry_out.uninstall(self.plan)
        with hold_to_remove(self.state, END_S) if self._takes_state else nullcontext():
            if self._takes_state:
                self._require_answered()  # it took requests until it ended
            return removed + carry_out.remove(self._folders)

    def kept(self) -> list[Path]:
        """What is there of the agent's state, and of what other programs share, and stays."""
        return [path for path in (self.state, *_shared()) if path.exists() and path not in self._folders]

    def count_waiting(self) -> int:
        """Requests in the spool that were never answered."""
        file = self.state / "spool.db"
        if not file.exists():
            return 0
        from edge_agent.spool.policy import SpoolLimits
        from edge_agent.spool.store import SpoolStore

        store = SpoolStore(file, SpoolLimits())
        try:
            return int(store.describe()["depth"])
        finally:
            store.close()

    def _require_answered(self) -> None:
        if not self._is_forced and (waiting := self.count_waiting()):
            raise ConflictError(
                f"{waiting} requests in the spool were never answered; let the agent answer them first, or give --keep-state "
                "or --force"
            )


def _shared() -> list[Path]:
    return [config.home() / name for name in SHARED]
