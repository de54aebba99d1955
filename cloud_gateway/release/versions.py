"""The two versions of a release, loaded, warm and alike; and taken out again. Thin: the engine and the registry do the work."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from cloud_gateway.registry import Registry
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.signature import differences
from runtime.engine.model import Model
from runtime.errors import ConflictError, EdgewardError, ExecutionError, InvalidInputError, ModelNotFoundError
from runtime.serving.local_service import LocalService

log = logging.getLogger(__name__)

# Fetches and warm-ups at once: they share the loop's threads (5 on one core) with the beat of the lease, which must not wait.
MOST_SLOW: Final = 2


class Versions:
    """Loads and unloads versions of models. Used on one event loop; nothing here blocks it."""

    def __init__(self, local: LocalService, registry: Registry) -> None:
        self._local = local
        self._registry = registry
        self._slow = asyncio.Semaphore(MOST_SLOW)

    def served(self, model: str) -> list[int]:
        """The versions that are loaded here."""
        return self._local.engine.versions(model)

    def find(self, model: str, version: int) -> Model | None:
        """A loaded version, or None."""
        return self._local.engine.model(model, str(version)) if version in self.served(model) else None

    async def load(self, model: str, version: int) -> Model:
        """A version, loaded and warm: as it is where it is, else from the registry.

        `ModelNotFoundError` says where it was looked for; errors of opening and of warming up are those of the engine.
        """
        found = self.find(model, version)
        if found is not None:
            return found
        try:
            async with self._slow:
                bundle = await asyncio.to_thread(self._registry.bundle, model, version)
        except ModelNotFoundError as error:
            here = ", ".join(map(str, self.served(model))) or "none"
            raise ModelNotFoundError(f"{error}; versions served here: {here}") from None
        return await self._local.add(bundle)

    async def load_pair(self, plan: ReleasePlan) -> tuple[Model, Model]:
        """Stable and candidate; what is wrong with the candidate is said as such, and then it is not left loaded."""
        stable = await self.load(plan.model, plan.stable)
        was_there = self.find(plan.model, plan.candidate) is not None
        try:
            candidate = await self._load_candidate(plan)
            differing = differences((stable.inputs, stable.outputs), (candidate.inputs, candidate.outputs))
            if differing:
                raise InvalidInputError(
                    f"candidate version {plan.candidate} of {plan.model!r} has another signature than stable "
                    f"version {plan.stable}: {'; '.join(differing)}; callers could not use both, so give it another model name"
                )
        except EdgewardError:
            if not was_there:
                await self.unload(plan.model, plan.candidate, "its release was refused")
            raise
        return stable, candidate

    async def _load_candidate(self, plan: ReleasePlan) -> Model:
        which = f"candidate version {plan.candidate} of {plan.model!r}"
        try:
            candidate = await self.load(plan.model, plan.candidate)
            # Also one that was loaded before: a release does not begin with a version that cannot answer.
            async with self._slow:
                await asyncio.to_thread(candidate.warm_up)
        except (ModelNotFoundError, ConflictError):
            raise
        except EdgewardError as error:
            raise ExecutionError(
                f"{which} cannot be released, stable keeps serving: it fails its warm-up: {error}"
            ) from error
        return candidate

    async def unload(self, model: str, version: int, reason: str) -> None:
        """Takes a version out of service once its requests are answered, and says so where that fails."""
        try:
            await self._local.remove(model, version, reason)
        except EdgewardError as error:
            log.error("version %d of model %s stays loaded: %s", version, model, error)

    def is_asked_for(self, model: str, version: int) -> bool:
        """Whether whoever started the gateway wants several versions served, this one among them, release or not."""
        policy = self._local.engine.policy(model)
        return policy.latest != 1 and version in policy.choose(self.served(model))
