"""The gateway's page on an admin port of its own, over parts that tests change while it is open."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.admin.server import admin_server
from cloud_gateway.page import REVIEW_PATH, gateway_page, page_routes
from runtime.errors import StorageError
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import LATENCY_BOUNDS_NS, Histogram
from runtime.telemetry.history_recorder import HistoryRecorder

KEY = "edgeward_admin_of-these-tests-alone-0123456789"
PATIENCE_S = 20
AFTER = {"promote": "running", "pause": "paused", "resume": "running", "abort": "aborted", "rollback": "rolled_back"}
FOUND = {
    "since": 1_700_000_000.0,
    "size": "ks 0.4",
    "kind": "covariate shift",
    "detail": "",
    "next": "look at the camera",
}
HOSTILE = '<img src=x onerror="window.broken=1">"><script>window.broken=1</script>'


@dataclass
class Gateway:
    """What the page is told, and what it asked for: changed by tests while the page is open."""

    url: str = ""
    answered: int = 0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    status: str = "running"
    in_stage_s: float = 12.0
    shadow: dict[str, Any] = field(default_factory=dict)
    acted_at: float | None = None
    """When the system last did something by itself."""
    waiting: list[str] = field(default_factory=lambda: ["r1", "r2", "r3"])
    found: list[dict[str, Any]] = field(default_factory=lambda: [{**FOUND, "feature": "brightness"}])
    """What drifts."""
    calm: str = "none"
    """What it says where nothing drifts."""
    before: float | None = 0.1
    """The share of each class in what is answered to the samples; None: that is not known."""
    drift_fails: bool = False
    histogram: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_NS))
    recorder: HistoryRecorder = field(default_factory=HistoryRecorder)

    async def models(self) -> Mapping[str, Any]:
        model = {
            "name": HOSTILE,
            "version": 1,
            "backend": "int8.onnx on onnxruntime-cpu",
            "why": HOSTILE,
            "row_ms": 0.2,
        }
        return {"models": [model]}

    async def releases(self) -> Mapping[str, Any]:
        finding = {"metric": "error", "segment": "", "test": "betting", "stable_count": 900, "candidate_count": 100}
        numbers = {
            "stable_estimate": 0.01,
            "candidate_estimate": 0.02,
            "difference": 0.01,
            "lower": -0.01,
            "upper": 0.03,
        }
        verdict = {
            "action": "hold",
            "reason": "too little is known",
            "needed": 420,
            "findings": [{**finding, **numbers}],
        }
        release = {"model": HOSTILE, "stable": 1, "candidate": 2, "strategy": "canary", "status": self.status}
        release |= {"share": 0.05, "in_stage_s": self.in_stage_s, "began_unix_ms": 1_795_720_875_642}
        arm = {"requests": 72, "errors": 3, "p50_ms": 0.9, "p99_ms": 5.0}
        release |= {"arms": {"stable": arm, "candidate": arm | {"requests": 8}}, "reason": "the guards did not object"}
        release |= {
            "decided_unix_us": None,
            "switched_unix_us": 1_795_720_875_642_000,
            "fenced_answers": 17,
        } | self.shadow
        return {"releases": [{**release, "stage": 1, "stages": [1, 5, 25, 100], "verdict": verdict}]}

    async def drift(self) -> Mapping[str, Any]:
        if self.drift_fails:
            raise StorageError("the disk of the drift report is full; make room")
        shares = [{"value": str(number), "share": 0.1, "before": self.before} for number in range(10)]
        seen = {
            "model": HOSTILE,
            "version": 1,
            "verdict": "drift" if self.found else self.calm,
            "reason": "2,000 rows seen",
            "estimate": {"said": "97 % right", "assumes": "This holds while nothing else changes"},
            "statistics": {"rows": [], "left_out": 0, "predictions": shares},
        }
        return {"models": [{**seen, "findings": self.found}]}

    async def automation(self) -> Mapping[str, Any]:
        return {"models": [{"model": HOSTILE, "segment": "night", "level": "assist", "reason": "not proven"}]}

    async def reviews(self) -> Mapping[str, Any]:
        return {"waiting": len(self.waiting)}

    async def decisions(self) -> Mapping[str, Any]:
        lines: list[dict[str, Any]] = [
            {"at": time.time() - 30, "what": "stage_advanced", "model": HOSTILE, "reason": HOSTILE, "who": "guards"}
        ]
        if self.acted_at is not None:
            lines.append({"at": self.acted_at, "what": "rollback", "model": "m", "reason": "worse", "is_own": True})
        return {
            "decisions": [*lines, {"unix_ms": 1_700_000_000_000, "event": "started", "document": {"reason": "asked"}}]
        }

    async def release_action(self, request: AdminRequest) -> Mapping[str, Any]:
        self.asked.append((request.path["model"], request.path["action"], await request.json()))
        self.status = AFTER[request.path["action"]]
        return {"status": self.status}

    async def families(self) -> list[Family]:
        self.answered += 7
        self.histogram.add(3_000_000, 7)
        labels = {"model": HOSTILE, "version": "1", "role": "stable", "served_by": "cloud"}
        return [
            Family("edgeward_inferences_total", Kind.COUNTER, "I.", [({}, self.answered)]),
            Family("edgeward_ready", Kind.GAUGE, "R.", [({}, 1)]),
            Family("edgeward_queue_rows", Kind.GAUGE, "Q.", [(labels, 4)]),
            Family("edgeward_request_duration_seconds", Kind.HISTOGRAM, "D.", [(labels, self.histogram.read(1e9))]),
        ]


@contextmanager
def serving(gateway: Gateway, *, is_bare: bool = False, port: int = 0) -> Iterator[Gateway]:
    """The page on an admin port of its own, in a thread; `is_bare`: with no part set up."""
    started = threading.Event()
    stop: list[Any] = []

    async def body() -> None:
        sections = {
            "status": gateway.models,
            "releases": gateway.releases,
            "drift": gateway.drift,
            "automation": gateway.automation,
            "reviews": gateway.reviews,
            "decisions": gateway.decisions,
        }
        page = gateway_page(
            "edgeward-gateway",
            gateway.recorder,
            {} if is_bare else sections,
            release_path=None if is_bare else "/admin/releases/{model}/{action}",
            review_path=None if is_bare else REVIEW_PATH,
        )
        routes = [
            *page_routes(page),
            AdminRoute("POST", "/admin/releases/{model:path}/{action}", gateway.release_action),
        ]
        running = asyncio.create_task(page.run(gateway.families))
        async with admin_server("127.0.0.1", port, routes, AdminKey(KEY)) as at:
            gateway.url = f"http://{at}/"
            stop.extend((asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await stop[1].wait()
            page.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(body(),))
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        yield gateway
    finally:
        stop[0].call_soon_threadsafe(stop[1].set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "open streams held the server up"
