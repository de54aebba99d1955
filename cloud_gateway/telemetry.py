"""Takes windows of statistics from agents: capped, counted once, joined by model, kept, drift decided over all devices.

When a window was is worked out here: the moment it arrived, less the age that the device measured on a clock that only
counts up. A device's idea of the date is never asked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloud_gateway.windows import Kept, Windows
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError, InvalidInputError, ModelNotFoundError, OverloadedError, StorageError
from runtime.monitoring.blob import MAX_BLOB_BYTES, BlobError, from_blob, identify
from runtime.monitoring.bundled import bundled_baseline, without_outputs
from runtime.monitoring.monitor import Monitor, Window
from runtime.monitoring.reference import Baseline
from runtime.monitoring.verdict import Verdict
from runtime.serving.extra_route import ExtraRoute
from runtime.serving.http_body import read_body

log = logging.getLogger(__name__)

PATH: Final = "/edgeward/telemetry"
MAX_BODY_BYTES: Final = MAX_BLOB_BYTES * 4 // 3 + 4096
WINDOWS_PER_HOUR: Final = 240
"""Of one device: one every 15 s. Twice as many may come at once, after a time offline."""
BYTES_PER_HOUR: Final = 16 << 20
MAX_DEVICES: Final = 10_000
MAX_AGE_S: Final = 7 * 86_400.0
RECENT_IDS: Final = 50_000


class _Envelope(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: str = Field(min_length=1, max_length=128, pattern=r"^[\x20-\x7e]+$")
    window: str = Field(pattern=r"^[0-9a-f]{32}$")
    age_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    span_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    blob: str = Field(max_length=MAX_BLOB_BYTES * 4 // 3 + 4)


@dataclass(slots=True)
class _Device:
    windows_left: float
    bytes_left: float
    refilled: float
    rows: int = 0
    accepted: int = 0
    dropped: int = 0
    last: float = 0.0


class Fleet:
    """What devices sent, by model. `receive` and `document` are called on the event loop; counting runs on a thread."""

    def __init__(
        self,
        bundle_of: Callable[[str, int], Bundle | None],
        windows: Windows | None,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._bundle_of = bundle_of
        self._windows = windows
        self._unix = unix
        self._lock = threading.Lock()
        self._monitors: dict[tuple[str, int], Monitor] = {}
        self._baselines: dict[tuple[str, int], tuple[str, Baseline]] = {}
        """With the digest of the bundle that each is of."""
        self._devices: OrderedDict[str, _Device] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._counts: dict[str, int] = {"accepted": 0, "repeated": 0, "dropped": 0, "not_stored": 0}
        self._refused: dict[str, int] = {}

    async def receive(self, body: bytes) -> Mapping[str, object]:
        """Takes one window; the body of `POST /edgeward/telemetry`. Refusals name their reason."""
        return await asyncio.to_thread(self.take, body)

    def take(self, body: bytes) -> Mapping[str, object]:
        """As `receive`, here and now.

        `OverloadedError` for a device over its share, `BlobError` or `InvalidInputError` for what is no window of a model here.
        """
        with self._lock:
            try:
                return self._take(body)
            except BlobError as error:
                self._refused[error.reason] = self._refused.get(error.reason, 0) + 1
                raise
            except (InvalidInputError, ModelNotFoundError):
                self._refused["envelope"] = self._refused.get("envelope", 0) + 1
                raise

    def load(self) -> int:
        """Counts what the store holds, oldest first, after a start; how many windows that were."""
        counted = 0
        for kept in () if self._windows is None else self._windows.all():
            try:
                with self._lock:
                    self._count(kept)
                counted += 1
            except EdgewardError as error:
                log.info("a stored window of %s is not counted: %s", kept.device, error)
        return counted

    def document(self) -> dict[str, Any]:
        """What devices told, as JSON."""
        with self._lock:
            models = [{**monitor.document(), "source": "devices"} for monitor in self._monitors.values()]
            devices = [
                {
                    "device": name,
                    "rows": d.rows,
                    "windows": d.accepted,
                    "dropped": d.dropped,
                    "last_unix": round(d.last, 1),
                }
                for name, d in list(self._devices.items())[-100:]
            ]
            return {"models": models, "devices": devices, "counts": {**self._counts, "refused": dict(self._refused)}}

    def verdicts(self) -> dict[tuple[str, int], tuple[Verdict, ...]]:
        """What drifts now on devices, by model and version; one that no device told of is not in it."""
        with self._lock:
            return {place: tuple(one.verdicts.values()) for place, one in self._monitors.items() if one.looks}

    def _take(self, body: bytes) -> Mapping[str, object]:
        envelope = _open(body)
        now = self._unix()
        device = self._device(envelope.device, now)
        key = (envelope.device, envelope.window)
        if key in self._seen:
            self._counts["repeated"] += 1
            return {"accepted": True, "repeated": True, "stored": True}
        if device.windows_left < 1 or device.bytes_left < len(body):
            device.dropped += 1
            self._counts["dropped"] += 1
            raise OverloadedError(
                f"device {envelope.device!r} sends more than {WINDOWS_PER_HOUR} windows or {BYTES_PER_HOUR >> 20} MiB an hour; "
                "this window is dropped: send fewer, they may be joined",
                60.0,
            )
        try:
            blob = base64.b64decode(envelope.blob, validate=True)
        except binascii.Error as error:
            raise InvalidInputError(f"`blob` is no base64: {error}") from error
        ended = now - min(envelope.age_s, MAX_AGE_S)
        began = ended - min(envelope.span_s, MAX_AGE_S)
        # What is refused costs its share too, or trying would be free.
        device.windows_left -= 1
        device.bytes_left -= len(body)
        kept = Kept(envelope.device, envelope.window, began, ended, blob)
        is_stored = self._store(kept)
        if is_stored is None:
            self._counts["repeated"] += 1
            self._remember(key)
            return {"accepted": True, "repeated": True, "stored": True}
        self._remember(key)
        return {"accepted": True, "repeated": False, "stored": is_stored}

    def _store(self, kept: Kept) -> bool | None:
        """Whether it is on disk; None: it had been there. A store that fails keeps nothing from being counted."""
        baseline = self._baseline(*identify(kept.blob))
        summary = from_blob(kept.blob, baseline)
        is_stored = False
        if self._windows is not None:
            try:
                if not self._windows.add(kept, self._unix()):
                    return None
                is_stored = True
            except StorageError as error:
                self._counts["not_stored"] += 1
                if self._counts["not_stored"] & (self._counts["not_stored"] - 1) == 0:
                    log.warning("statistics are counted but not kept: %s", error)
        self._add(kept, Window(summary, kept.began, kept.ended))
        return is_stored

    def _count(self, kept: Kept) -> None:
        baseline = self._baseline(*identify(kept.blob))
        self._add(kept, Window(from_blob(kept.blob, baseline), kept.began, kept.ended))
        self._device(kept.device, self._unix())
        self._remember((kept.device, kept.window))

    def _add(self, kept: Kept, window: Window) -> None:
        baseline = window.summary.baseline
        monitor = self._monitors.get((baseline.model, baseline.version))
        if monitor is None or monitor.baseline is not baseline:
            # Of a bundle that took another's place under one version: rows are held against their own reference.
            monitor = self._monitors[(baseline.model, baseline.version)] = Monitor(baseline)
        for verdict in monitor.add(window):
            log.warning("devices' rows of %s version %d drift: %s", baseline.model, baseline.version, verdict)
        self._counts["accepted"] += 1
        device = self._device(kept.device, self._unix())
        device.rows += window.summary.rows
        device.accepted += 1
        device.last = max(device.last, kept.ended)

    def _baseline(self, model: str, version: int) -> Baseline:
        bundle = self._bundle_of(model, version)
        if bundle is None:
            raise ModelNotFoundError(
                f"statistics of model {model!r} version {version}, which this gateway does not serve"
            )
        digest, known = self._baselines.get((model, version), ("", None))
        if known is None or digest != bundle.digest:
            made = bundled_baseline(bundle)
            if made is None:
                raise BlobError(
                    "baseline", f"the bundle of {model!r} here has no profile and no samples to compare with"
                )
            known = without_outputs(made)
            self._baselines[(model, version)] = (bundle.digest, known)
        return known

    def _device(self, name: str, now: float) -> _Device:
        device = self._devices.pop(name, None) or _Device(2.0 * WINDOWS_PER_HOUR, 2.0 * BYTES_PER_HOUR, now)
        self._devices[name] = device
        while len(self._devices) > MAX_DEVICES:
            self._devices.popitem(last=False)
        passed_s = max(now - device.refilled, 0.0)
        device.refilled = now
        device.windows_left = min(device.windows_left + passed_s * WINDOWS_PER_HOUR / 3600, 2.0 * WINDOWS_PER_HOUR)
        device.bytes_left = min(device.bytes_left + passed_s * BYTES_PER_HOUR / 3600, 2.0 * BYTES_PER_HOUR)
        return device

    def _remember(self, key: tuple[str, str]) -> None:
        self._seen[key] = None
        while len(self._seen) > RECENT_IDS:
            self._seen.popitem(last=False)


def _open(body: bytes) -> _Envelope:
    if len(body) > MAX_BODY_BYTES:
        raise BlobError("too_large", f"a window of {len(body)} bytes; at most {MAX_BODY_BYTES} are taken")
    try:
        return _Envelope.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "body"
        raise InvalidInputError(f"no window of statistics: {where}: {problem['msg']}") from error


def telemetry_route(fleet: Fleet) -> ExtraRoute:
    """`POST /edgeward/telemetry`."""

    async def answer(request: Request) -> Response:
        body = await read_body(dict(request.scope["headers"]), request.receive, MAX_BODY_BYTES)
        return JSONResponse(await fleet.receive(body))

    return ExtraRoute("POST", PATH, answer)


def bundles_of(models: Callable[[], Sequence[Any]]) -> Callable[[str, int], Bundle | None]:
    """Finds the bundle of a model version among those in service."""

    def find(name: str, version: int) -> Bundle | None:
        return next((model.bundle for model in models() if (model.name, model.version) == (name, version)), None)

    return find
