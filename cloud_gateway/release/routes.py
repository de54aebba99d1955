"""Releases and the registry over the admin API."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cloud_gateway.admin.app import AdminRequest, AdminRoute, list_in
from cloud_gateway.guards import Arm, MetricObservation
from cloud_gateway.registry import RegisteredVersion, Registry
from cloud_gateway.release.controller import ReleaseController
from cloud_gateway.release.plan import check_plan, parse_plan
from cloud_gateway.release.reported import Report, ReportedMetrics
from cloud_gateway.release.steps import Command
from cloud_gateway.release.store import ReleaseStore, Unreadable
from cloud_gateway.rollout.routes import wave_route
from runtime.errors import InvalidInputError, ModelNotFoundError, StorageError
from runtime.serving.names import check_name

MAX_AUDIT_LINES: Final = 1000
MAX_METRICS: Final = 1000
MAX_ID_CHARACTERS: Final = 128


class ReleaseRoutes:
    """What `/admin/releases`, `/admin/audit` and `/admin/registry` answer."""

    def __init__(
        self,
        controller: ReleaseController,
        store: ReleaseStore,
        reported: ReportedMetrics,
        registry: Registry,
        incoming: Path,
        max_push_bytes: int,
    ) -> None:
        """`incoming`: a folder for bundles that are being pushed."""
        self._controller = controller
        self._store = store
        self._reported = reported
        self._registry = registry
        self._incoming = incoming
        self._max_push_bytes = max_push_bytes

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        one = "/admin/releases/{model}"
        return [
            AdminRoute("GET", "/admin/releases", self.releases),
            AdminRoute("POST", "/admin/releases", self.start),
            AdminRoute("GET", one, self.release),
            AdminRoute("POST", f"{one}/metrics", self.metrics),
            wave_route(self._store.rollouts),
            AdminRoute("POST", f"{one}/{{command}}", self.command),
            AdminRoute("GET", "/admin/audit", self.audit),
            AdminRoute("GET", "/admin/audit/check", self.check_audit),
            AdminRoute("GET", "/admin/registry", self.registered),
            AdminRoute("GET", "/admin/registry/{model}", self.registered_versions),
            AdminRoute("POST", "/admin/registry", self.push, max_body_bytes=self._max_push_bytes),
        ]

    async def releases(self, request: AdminRequest) -> Mapping[str, Any]:
        """Releases, the newest first; apart from them those that cannot be read."""
        found, unreadable = await self._controller.list(_number(request, "limit", 100, 1000))
        told: dict[str, Any] = {"releases": await asyncio.to_thread(lambda: [self._with_waves(one) for one in found])}
        return told | ({"unreadable": list(map(_unreadable, unreadable))} if unreadable else {})

    async def start(self, request: AdminRequest) -> Mapping[str, Any]:
        """Begins the release that `plan` (TOML, or its values) asks for."""
        document = await request.json()
        plan = document.get("plan")
        if isinstance(plan, str):
            return await self._controller.start(parse_plan(plan))
        if isinstance(plan, dict):
            return await self._controller.start(check_plan(plan))
        seen = f"is {plan!r:.80}" if "plan" in document else "is missing"
        raise InvalidInputError(f"'plan' {seen}; expected the release's plan, as TOML text or as an object")

    async def release(self, request: AdminRequest) -> Mapping[str, Any]:
        """The newest release of a model."""
        return await asyncio.to_thread(self._with_waves, await self._controller.describe(_model(request)))

    async def command(self, request: AdminRequest) -> Mapping[str, Any]:
        """promote, pause, resume, abort or rollback."""
        try:
            command = Command(request.path["command"])
        except ValueError:
            raise InvalidInputError(
                f"{request.path['command']!r:.80} is nothing that a release does; expected one of {', '.join(Command)}"
            ) from None
        document = await request.json()
        percent = document.get("to_percent")
        if percent is not None and (isinstance(percent, bool) or not isinstance(percent, int | float)):
            raise InvalidInputError(f"'to_percent' is {percent!r:.80}; expected a number over 0 and up to 100")
        why = document.get("reason", "")
        if not isinstance(why, str) or len(why) > 1000:
            raise InvalidInputError(f"'reason' is {why!r:.80}; expected a text of up to 1000 characters")
        return await self._controller.command(_model(request), command, why, percent)

    async def metrics(self, request: AdminRequest) -> Mapping[str, Any]:
        """Business metrics that the app reports: `{"metrics": [{"name": ..., "value": ..., "release": "candidate", "id": ...}]}`.

        `release` is what the reply's parameter of that name said. `id`, such as the request's, makes a metric count once however
        often it is told; without one it counts each time. `taken`: on disk, for the guards; `known`: told before.
        """
        release = self._controller.running(_model(request))  # `ModelNotFoundError` where none would take them
        reports = [_report(one) for one in list_in(await request.json(), "metrics", MAX_METRICS)]
        taken = await asyncio.to_thread(self._reported.take, release, reports)
        return {"taken": taken, "known": len(reports) - taken}

    async def audit(self, request: AdminRequest) -> Mapping[str, Any]:
        """Lines of the audit log behind number `after`."""
        after, limit = _number(request, "after", 0, 1 << 60), _number(request, "limit", 100, MAX_AUDIT_LINES)
        model = request.query.get("model")
        lines = await asyncio.to_thread(self._store.audit, after, limit, model)
        return {"lines": [line.to_dict() for line in lines]}

    async def check_audit(self, _: AdminRequest) -> Mapping[str, Any]:
        """Whether the whole log's chain holds; keep `hash` elsewhere to see a later forgery."""
        number, hash_, problem = await asyncio.to_thread(self._store.check_audit)
        return {"lines": number, "hash": hash_, "is_whole": problem is None, "problem": problem}

    async def registered(self, _: AdminRequest) -> Mapping[str, Any]:
        """Every version in the registry."""

        def look() -> list[RegisteredVersion]:
            return [version for model in self._registry.models() for version in self._registry.versions(model)]

        return {"versions": [version.model_dump(mode="json") for version in await asyncio.to_thread(look)]}

    async def registered_versions(self, request: AdminRequest) -> Mapping[str, Any]:
        """A model's versions in the registry."""
        model = _model(request)
        found = await asyncio.to_thread(self._registry.versions, model)
        if not found:
            raise ModelNotFoundError(
                f"model {model!r} is not in the registry; push it with: edgeward gateway push BUNDLE"
            )
        return {"versions": [version.model_dump(mode="json") for version in found]}

    async def push(self, request: AdminRequest) -> Mapping[str, Any]:
        """Takes in the bundle that the body is a tar of."""
        archive = await self._receive(request)
        try:
            version = await asyncio.to_thread(self._registry.push, archive)
        finally:
            await asyncio.to_thread(archive.unlink)
        told = version.model_dump(mode="json")
        await asyncio.to_thread(self._store.note, "push", version.model, told)
        return told

    def _with_waves(self, told: dict[str, Any]) -> dict[str, Any]:
        """Blocking; a release that was promoted also says how its version fares on the devices."""
        waves = self._store.rollouts.describe(told["release"])
        return told if waves is None else {**told, "waves": waves}

    async def _receive(self, request: AdminRequest) -> Path:
        """The body as a file of ours."""

        def make() -> tuple[int, str]:
            self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            return tempfile.mkstemp(suffix=".tar", dir=self._incoming)

        try:
            handle, name = await asyncio.to_thread(make)
            try:
                with os.fdopen(handle, "wb") as file:
                    async for chunk in request.chunks():
                        await asyncio.to_thread(file.write, chunk)
            except BaseException:
                _drop(name)
                raise
        except OSError as error:
            raise StorageError(f"the bundle cannot be kept: {error}; look at the gateway's disk space") from error
        return Path(name)


def _drop(name: str) -> None:
    Path(name).unlink(missing_ok=True)


def _model(request: AdminRequest) -> str:
    name = request.path["model"]
    check_name(name)
    return name


def _number(request: AdminRequest, name: str, default: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) <= most):
        raise InvalidInputError(f"{name} is {text!r:.40}; expected a whole number up to {most}")
    return int(text)


def _report(said: object) -> Report:
    if not isinstance(said, dict):
        raise InvalidInputError(f"a metric is {said!r:.80}; expected an object with name, value and release")
    name, value, arm, segment, id_ = (said.get(key) for key in ("name", "value", "release", "segment", "id"))
    if not isinstance(name, str) or not 0 < len(name) <= 128:
        raise InvalidInputError(f"a metric's name is {name!r:.80}; expected a text of up to 128 characters")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"metric {name!r} has the value {value!r:.80}; expected a number")
    if arm not in list(Arm):
        raise InvalidInputError(
            f"metric {name!r} has release {arm!r:.80}; expected {' or '.join(Arm)}, as the reply said"
        )
    if segment is not None and not isinstance(segment, str):
        raise InvalidInputError(f"metric {name!r} has segment {segment!r:.80}; expected a text")
    if id_ is not None and not (isinstance(id_, str) and 0 < len(id_) < MAX_ID_CHARACTERS):
        raise InvalidInputError(
            f"metric {name!r} has id {id_!r:.80}; expected a text of fewer than {MAX_ID_CHARACTERS} characters"
        )
    return Report(MetricObservation(Arm(str(arm)), name, float(value), (segment or "")[:64]), id_ or "")


def _unreadable(one: Unreadable) -> dict[str, Any]:
    return {"release": one.id, "model": one.model, "status": one.status, "why": one.why}
