"""Takes windows of statistics from agents: capped, counted once, joined by model, kept, drift decided over all devices.

When a window was is worked out here: the moment it arrived, less the age that the device measured, both on clocks that only
count up. No date is asked, the device's nor this machine's: either may be a day off, or be set while rows come in.
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
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloud_gateway.devices import BYTES_PER_HOUR, MAX_NAMED, WINDOWS_PER_HOUR, Devices
from cloud_gateway.telemetry_metrics import ENVELOPE, WindowCounts, device_metrics, window_metrics
from cloud_gateway.windows import Kept, Windows
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError, InvalidInputError, ModelNotFoundError, OverloadedError, StorageError
from runtime.monitoring.blob import MAX_BLOB_BYTES, BlobError, from_blob, identify
from runtime.monitoring.bundled import bundled_baseline, without_outputs
from runtime.monitoring.monitor import Monitor, Window, in_order
from runtime.monitoring.reference import Baseline
from runtime.monitoring.verdict import Verdict
from runtime.serving.rest.body import read_body
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.telemetry.elapsed import elapsed_s
from runtime.telemetry.exposition import Family

log = logging.getLogger(__name__)

PATH: Final = "/edgeward/telemetry"
MAX_BODY_BYTES: Final = MAX_BLOB_BYTES * 4 // 3 + 4096
MAX_AGE_S: Final = 7 * 86_400.0
RECENT_IDS: Final = 50_000


class _Envelope(BaseModel):
    # Later agents may say more; it is left aside rather than the whole window refused.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    device: str = Field(min_length=1, max_length=128, pattern=r"^[\x20-\x7e]+$")
    window: str = Field(pattern=r"^[0-9a-f]{32}$")
    age_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    span_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    blob: str = Field(max_length=MAX_BLOB_BYTES * 4 // 3 + 4)
    drifting: list[Annotated[str, Field(max_length=256)]] = Field(default=[], max_length=64)
    """Features that drift on that device, by its own test of the rows that it may tell of."""
    private_rows: int = Field(default=0, ge=0, le=1 << 53)
    """Rows that it counted meanwhile for itself alone."""


class Fleet:
    """What devices sent, by model. `receive` and `document` are called on the event loop; counting runs on a thread.

    Times inside are by `clock`, which nobody sets; `unix` dates what is kept for the next start.
    """

    def __init__(
        self,
        bundle_of: Callable[[str, int], Bundle | None],
        windows: Windows | None,
        unix: Callable[[], float] = time.time,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        self._bundle_of = bundle_of
        self._windows = windows
        self._unix = unix
        self._clock = clock
        self._lock = threading.Lock()
        self._monitors: dict[tuple[str, int], Monitor] = {}
        self._baselines: dict[tuple[str, int], tuple[str, Baseline]] = {}
        """With the digest of the bundle that each is of."""
        self._found: dict[tuple[str, int], dict[str, Verdict]] = {}
        """By feature the last verdict on it, until neither the newest rows nor a device tell of it any more."""
        self._devices = Devices()
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._counts = WindowCounts()

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
                self._counts.refuse(error.reason)
                raise
            except (InvalidInputError, ModelNotFoundError):
                self._counts.refuse(ENVELOPE)
                raise

    def load(self) -> int:
        """Counts what the store holds, oldest first, after a start; how many windows that were."""
        counted, now = 0, self._unix()
        ago_s = now - self._clock()
        for kept in () if self._windows is None else self._windows.all(now):
            try:
                with self._lock:
                    self._count(kept, kept.began - ago_s, kept.ended - ago_s)
                counted += 1
            except EdgewardError as error:
                log.info("a stored window of %s is not counted: %s", kept.device, error)
        return counted

    def document(self) -> dict[str, Any]:
        """What devices told, as JSON; times of verdicts are by `clock`, those of devices are dates."""
        with self._lock:
            now = self._clock()
            models = [self._describe(place, monitor, now) for place, monitor in self._monitors.items()]
            devices = self._devices.described(self._unix() - now)
            return {"models": models, "devices": devices, "counts": self._counts.to_dict()}

    def families(self) -> list[Family]:
        """What became of what devices sent, and on how many of them features drift, as metrics."""
        with self._lock:
            now = self._clock()
            told = {place: self._devices.that_tell_of(place, now) for place in self._monitors}
            return [*window_metrics(self._counts), *device_metrics(told)]

    def verdicts(self) -> dict[tuple[str, int], tuple[Verdict, ...]]:
        """What drifts now on devices, by model and version; one that no device told of is not in it."""
        with self._lock:
            now = self._clock()
            return {
                place: tuple(self._verdicts(place, now).values()) for place, one in self._monitors.items() if one.looks
            }

    def _describe(self, place: tuple[str, int], monitor: Monitor, now: float) -> dict[str, Any]:
        verdicts, drifting = self._verdicts(place, now), self._devices.drifting(place, now)
        return {
            **monitor.document(),
            "source": "devices",
            "by_device": self._devices.that_tell_of(place, now),
            "is_drifting": bool(verdicts),
            "verdicts": [
                {**told, "devices": drifting.get(told["feature"], [])[:MAX_NAMED]}
                for told in in_order(verdicts.values())
            ],
        }

    def _verdicts(self, place: tuple[str, int], now: float) -> Mapping[str, Verdict]:
        """What the newest rows show, and what they showed while a device still says that it drifts there.

        One device among many is in the newest rows for moments; a finding that came and went with its windows would be none.
        """
        found, seen = self._found.get(place, {}), self._monitors[place].verdicts
        told = self._devices.drifting(place, now)
        self._found[place] = {name: one for name, one in (found | seen).items() if name in seen or name in told}
        return self._found[place]

    def _take(self, body: bytes) -> Mapping[str, object]:
        envelope = _open(body)
        now = self._clock()
        device = self._devices.seen(envelope.device, now)
        key = (envelope.device, envelope.window)
        if key in self._seen:
            self._counts.repeated += 1
            return {"accepted": True, "repeated": True, "stored": True}
        if not device.may_send(len(body)):
            device.dropped += 1
            self._counts.dropped += 1
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
        device.spend(len(body))
        is_stored = self._store(envelope, blob, began, ended)
        if is_stored is None:
            self._counts.repeated += 1
            self._remember(key)
            return {"accepted": True, "repeated": True, "stored": True}
        self._remember(key)
        return {"accepted": True, "repeated": False, "stored": is_stored}

    def _store(self, envelope: _Envelope, blob: bytes, began: float, ended: float) -> bool | None:
        """Whether it is on disk; None: it had been there. A store that fails keeps nothing from being counted."""
        baseline = self._baseline(*identify(blob))
        summary = from_blob(blob, baseline)
        known = {feature.name for feature in baseline.features}
        drifting = tuple(name for name in envelope.drifting if name in known)
        is_stored = False
        if self._windows is not None:
            received = self._unix()
            offset_s = received - self._clock()
            times = began + offset_s, ended + offset_s
            kept = Kept(envelope.device, envelope.window, *times, blob, drifting, envelope.private_rows)
            try:
                if not self._windows.add(kept, received):
                    return None
                is_stored = True
            except StorageError as error:
                self._counts.not_stored += 1
                if self._counts.not_stored & (self._counts.not_stored - 1) == 0:
                    log.warning("statistics are counted but not kept: %s", error)
        self._add(envelope.device, Window(summary, began, ended, drifting, envelope.private_rows))
        return is_stored

    def _count(self, kept: Kept, began: float, ended: float) -> None:
        baseline = self._baseline(*identify(kept.blob))
        summary = from_blob(kept.blob, baseline)
        self._add(kept.device, Window(summary, began, ended, kept.drifting, kept.private_rows))
        self._remember((kept.device, kept.window))

    def _add(self, sender: str, window: Window) -> None:
        baseline = window.summary.baseline
        place = baseline.model, baseline.version
        monitor = self._monitors.get(place)
        if monitor is None or monitor.baseline is not baseline:
            # Of a bundle that took another's place under one version: rows are held against their own reference.
            monitor = self._monitors[place] = Monitor(baseline)
            self._found.pop(place, None)
        found = self._found.get(place, {})
        for verdict in monitor.add(window):
            if verdict.feature not in found:
                log.warning("devices' rows of %s version %d drift: %s", baseline.model, baseline.version, verdict)
        self._counts.accepted += 1
        if monitor.verdicts:
            self._found[place] = found | monitor.verdicts
        device = self._devices.seen(sender, self._clock())
        device.count(window.summary.rows, window.ended)
        device.tell(place, window.ended, window.drifting)
        if window.private_rows:
            device.tell_private(place, window.ended, window.private_rows)

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

    return ExtraRoute("POST", PATH, answer, "Takes statistics of a device")


def bundles_of(models: Callable[[], Sequence[Any]]) -> Callable[[str, int], Bundle | None]:
    """Finds the bundle of a model version among those in service."""

    def find(name: str, version: int) -> Bundle | None:
        return next((model.bundle for model in models() if (model.name, model.version) == (name, version)), None)

    return find
