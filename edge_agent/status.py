"""What an agent says of itself at `/edgeward/status`: for `agent status`, its page, and whoever asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from edge_agent.cascade import Cascade
from edge_agent.program import NAME
from runtime.serving.program import describe_models

if TYPE_CHECKING:
    from edge_agent.offline import Offline
    from edge_agent.service import AgentService
    from edge_agent.settings import AgentSettings
    from edge_agent.telemetry import Telemetry
    from edge_agent.upstreams import Gateways
    from runtime.engine.engine import Engine


class AgentStatus:
    """The document of one agent; its uptime counts from here. Used on its event loop."""

    def __init__(
        self,
        settings: AgentSettings,
        engine: Engine,
        service: AgentService,
        offline: Offline,
        gateways: Gateways | None,
        telemetry: Telemetry | None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._service = service
        self._offline = offline
        self._gateways = gateways
        self._telemetry = telemetry
        self._started = time.monotonic()

    async def describe(self) -> Mapping[str, object]:
        """It as JSON, as it is now; asks gateways that were not asked lately whether they answer."""
        service, drill_file = self._service, self._settings.drill_file
        return {
            "program": NAME,
            "version": version("edgeward"),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "policy": self._settings.policy,
            "drill_file": None if drill_file is None else str(drill_file),
            "models": describe_models(self._engine),
            "routes": self._routes(),
            "gateways": [] if self._gateways is None else await self._gateways.describe(),
            "requests": service.counts.describe(),
            "effort": service.counts.describe_effort() | self._retries(),
            "lateness": service.describe_paces(),
            "telemetry": None if self._telemetry is None else self._telemetry.describe(),
            **await self._offline.describe(),
        }

    def _routes(self) -> dict[str, object]:
        """By the name of every model that is served here or has a route of its own: how its requests go."""
        names = {model.name for model in self._engine.models()} | set(self._settings.routes)
        return {name: self._rule(name) for name in sorted(names)}

    def _rule(self, model: str) -> dict[str, object]:
        rule, cascade = self._service.rule_of(model), self._service.cascade_of(model)
        return {
            "policy": rule.policy,
            "privacy": rule.privacy,
            "hedge": rule.hedge,
            "cascade": cascade.why if isinstance(cascade, Cascade) else cascade,
        }

    def _retries(self) -> dict[str, object]:
        if self._gateways is None:
            return {}
        return {"retries": self._gateways.retries, "retries_held_back": self._gateways.retries_held_back}
