"""A release in types that JSON has: for its status, its records and its webhook."""

from __future__ import annotations

from typing import Any

from cloud_gateway.guards import Verdict
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.report import ReleaseCounts
from cloud_gateway.release.state import ReleaseState
from cloud_gateway.release.store import Release


def describe_release(release: Release, state: ReleaseState | None = None) -> dict[str, Any]:
    """Where it stands; `state` where that is known better than it was stored."""
    plan, now = release.plan, state or release.state
    return {
        "release": release.id,
        "model": plan.model,
        "strategy": str(plan.strategy),
        "stable": plan.stable,
        "candidate": plan.candidate,
        "status": str(now.status),
        "is_alive": now.status.is_alive,
        "share": now.share,
        "stage": now.stage,
        "stages": list(plan.stages),
        "in_stage_s": round(now.in_stage_s, 1),
        "hold_s": plan.hold_s,
        "reason": now.reason,
        "began_unix_ms": release.began_unix_ms,
        "changed_unix_ms": release.changed_unix_ms,
    }


def describe_running(active: ActiveRelease) -> dict[str, Any]:
    """Where it stands, and what was seen."""
    return describe_release(active.release, active.state) | active.describe()


def numbers(counts: ReleaseCounts, verdict: Verdict | None) -> dict[str, Any]:
    """What is known, for the record of a decision."""
    return {
        "verdict": None if verdict is None else verdict.to_dict(),
        "arms": {str(arm): one.describe() for arm, one in counts.arms.items()},
        "replaced_by_stable": counts.replaced,
    }
