"""Bundles for devices that keep their models current: an index, and each bundle as a tar that can be fetched in parts.

GET /edgeward/bundles?device=&model=      {"bundles": [{"model", "version", "digest", "sha256", "size_bytes"}, ...]}
GET /edgeward/bundles/MODEL/VERSION       the tar; ranges, and an ETag that is its sha256

`device` names who asks, and each `model` one that it keeps current: where a version goes to the devices in waves, that decides.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from runtime.bundle.bundle import Bundle, sha256_of
from runtime.bundle.writing import pack
from runtime.errors import InvalidInputError, ModelNotFoundError
from runtime.serving.names import check_name
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.store import check_text

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

log = logging.getLogger(__name__)

INDEX_PATH = "/edgeward/bundles"
# A tar that is no longer offered may still be on its way to a device, and a rollback would want it again.
UNOFFERED_GRACE_S: Final = 24 * 3600.0
PRUNE_EVERY_S: Final = 600.0

MOST_NAME_CHARACTERS: Final = 128
MOST_MODELS_ASKED: Final = 256


class Offers(Protocol):
    """The bundles that devices may have, as they are now. Blocking, and asked on threads."""

    def offered(self, device: str, models: Collection[str]) -> Sequence[Bundle]:
        """For one device, empty where it does not say which it is, that keeps `models` current."""

    def find(self, model: str, version: int) -> Bundle | None:
        """One that some device may have."""

    def names(self) -> Sequence[str]:
        """All that some device may have, for people."""


def served_bundles(engine: Engine, chosen: Callable[[str], str | None]) -> list[Bundle]:
    """The bundles in service; bare model files have no manifest that pins them, and are not offered.

    `chosen`: the one version of a model that releases let devices have, for a candidate is in service too; None: any.
    """
    return [
        model.bundle
        for model in engine.models()
        if model.bundle.manifest is not None and chosen(model.name) in (None, str(model.version))
    ]


def bundle_routes(offers: Offers, folder: Path, wall: Callable[[], float] = time.time) -> list[ExtraRoute]:
    """The routes; tars are made once, in `folder`, when they are first asked for, and go a day after the last offer."""
    packed = _Packed(folder, wall)

    async def index(request: Request) -> Response:
        device, models = request.query_params.get("device", ""), request.query_params.getlist("model")
        if len(device) > MOST_NAME_CHARACTERS or len(models) > MOST_MODELS_ASKED:
            raise InvalidInputError(
                f"a device of {len(device)} characters asks for {len(models)} models; at most {MOST_NAME_CHARACTERS} and "
                f"{MOST_MODELS_ASKED} are taken"
            )
        check_text(device, "the device's name")
        for model in models:
            check_text(model, "the name of a model")
        bundles = await asyncio.to_thread(offers.offered, device, models)
        tars = await asyncio.to_thread(packed.tars_of, bundles)
        entries = [
            {
                "model": bundle.name,
                "version": bundle.version,
                "digest": bundle.digest,
                "sha256": tar.sha256,
                "size_bytes": tar.size_bytes,
            }
            for bundle, tar in zip(bundles, tars, strict=True)
        ]
        return JSONResponse({"bundles": entries})

    async def fetch(request: Request) -> Response:
        name, version = request.path_params["model"], request.path_params["version"]
        check_name(name, version)
        found = await asyncio.to_thread(offers.find, name, int(version)) if version.isdecimal() else None
        if found is None:
            known = ", ".join(await asyncio.to_thread(offers.names)) or "none"
            raise ModelNotFoundError(
                f"no bundle of model {name!r} version {version!r} is offered here; offered: {known}"
            )
        tar = await asyncio.to_thread(packed.tar_of, found)
        return FileResponse(tar.path, headers={"etag": f'"{tar.sha256}"'}, media_type="application/x-tar")

    return [
        ExtraRoute("GET", INDEX_PATH, index, "Bundles that devices may fetch"),
        ExtraRoute("GET", f"{INDEX_PATH}/{{model}}/{{version}}", fetch, "A bundle, as a tar"),
    ]


@dataclass(frozen=True, slots=True)
class _Tar:
    path: Path
    sha256: str
    size_bytes: int


class _Packed:
    """Tars by the bundle's digest: the same bundle gives the same bytes, on every gateway."""

    def __init__(self, folder: Path, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._wall = wall
        self._pruned_at: float | None = None
        self._lock = threading.Lock()
        self._known: dict[str, _Tar] = {}
        """By digest: many devices ask for the same, and a piece of a tar must not cost a reading of all of it."""

    def tars_of(self, bundles: Sequence[Bundle]) -> list[_Tar]:
        """The tars of all that is offered; those that have not been for a day are removed now and then. Blocking."""
        tars = [self.tar_of(bundle) for bundle in bundles]
        now = self._wall()
        with self._lock:
            if self._pruned_at is None or abs(now - self._pruned_at) >= PRUNE_EVERY_S:
                self._pruned_at = now
                self._prune({tar.path.name for tar in tars}, now)
        return tars

    def tar_of(self, bundle: Bundle) -> _Tar:
        """The bundle's tar, made where it is not there yet. Blocking."""
        tar = self._folder / f"{bundle.digest}.tar"
        with self._lock:
            known = self._known.get(bundle.digest)
            if known is not None and tar.exists():
                return known
            if not tar.exists():
                pack(bundle, tar)
                log.info(
                    "bundle %s version %d was packed for devices: %d bytes",
                    bundle.name,
                    bundle.version,
                    tar.stat().st_size,
                )
            made = self._known[bundle.digest] = _Tar(tar, sha256_of(tar), tar.stat().st_size)
            return made

    def _prune(self, offered: Collection[str], now: float) -> None:
        """A file's time of change says when it was last offered; what a pack that was cut off left ages in the same way."""
        for path in self._folder.iterdir():
            try:
                if path.name in offered:
                    os.utime(path, (now, now))
                elif now - path.stat().st_mtime >= UNOFFERED_GRACE_S:
                    size_bytes = path.stat().st_size
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                        self._known.pop(path.stem, None)
                    log.info(
                        "%s (%d bytes) was not offered to devices for %g h and is removed",
                        path.name,
                        size_bytes,
                        UNOFFERED_GRACE_S / 3600,
                    )
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)
