"""What a program's drift document says, as the page shows it: a verdict a model, a line for each feature that drifts, statistics,
where the model errs by its labels, and its figures beside the targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runtime.pages.drift_statistics import statistics_of
from runtime.pages.sections import Document

MAX_DEVICES: Final = 5
"""Named in a line; the document has more."""
SIZES: Final = ("ks", "psi", "wasserstein")
"""Of the distances, those that people read; all of them are in the document."""


def drift_section(document: Document) -> Document:
    """The section over `runtime.serving.observing.drift_document`; its times become seconds since 1970.

    A gateway's document also tells of rows that devices saw, and of labels, whose times are of that kind already.
    """

    async def tell() -> Mapping[str, Any]:
        told = await document()
        offset_s = _offset_s(told)
        here = [_model(one, offset_s, "this program") for one in told["models"]]
        devices = [_model(one, offset_s, "devices") for one in told.get("devices", {}).get("models", ())]
        labelled = map(_labelled, told.get("labels", {}).get("models", ()))
        return {"models": [*here, *labelled, *devices], "figures": told.get("figures", [])}

    return tell


def _offset_s(told: Mapping[str, Any]) -> float:
    """What turns the document's clock into seconds since 1970."""
    return float(told["now_unix"]) - float(told["now"])


def _model(one: Mapping[str, Any], offset_s: float, seen_by: str) -> dict[str, Any]:
    learning = one.get("learning")
    if learning is not None:
        verdict, reason = "learning", f"{learning['rows']} rows seen; the first 1,000 become the reference"
    elif one["verdicts"]:
        verdict, reason = "drift", f"{len(one['verdicts'])} of its features differ; {one['rows']:,} rows seen"
    elif not one.get("looks"):
        verdict, reason = "unseen", f"{one['rows']:,} rows seen, none looked at yet"
    else:
        verdict, reason = "none", f"{one['rows']:,} rows seen, {one['looks']} looks, no difference beyond chance"
    if one.get("private_rows"):
        reason += f". {one['private_rows']:,} of the rows are private: no other machine looks at them"
    if (found := one.get("by_device")) is not None and found["devices"]:
        reason += f". {_drifting(found)}"
        if verdict == "none":
            verdict = "drift" if found["drifting"] else "not known" if found["not_known"] else "none"
    return {
        "model": one["model"],
        "version": one["version"],
        "seen_by": seen_by,
        "verdict": verdict,
        "reason": reason,
        "findings": [_finding(found, offset_s) for found in one["verdicts"]],
        "estimate": None if one.get("estimate") is None else _estimate(one["estimate"]),
        "statistics": statistics_of(one["features"]) if one["rows"] and one.get("features") else None,
    }


def _estimate(found: Mapping[str, Any]) -> dict[str, Any]:
    """How often it is right, as far as that can be said without labels, and what has to hold for that."""
    return {
        "said": f"Without labels, by how sure it is: {found['accuracy']:.1%} of the newest {found['rows']:,} answers right, "
        f"{found['sample_accuracy']:.1%} of the samples",
        "assumes": f"This {found['assumptions']}",
    }


def _drifting(found: Mapping[str, Any]) -> str:
    """On which devices features drift, by each one's own test, and of how many that cannot be known here."""
    named = ", ".join(f"{one['device']} ({', '.join(one['features'][:2])})" for one in found["names"][:MAX_DEVICES])
    more, unknown, count = found["drifting"] - MAX_DEVICES, found["not_known"], found["drifting"]
    who = f"Of {found['devices']:,} {'device' if found['devices'] == 1 else 'devices'} that told within a day"
    if count:
        told = (
            f"{who} {count:,} {'drifts' if count == 1 else 'drift'}: {named}{f' and {more:,} more' if more > 0 else ''}"
        )
    else:
        told = f"{who} {'none is known to drift' if unknown else 'none drifts'}"
    if unknown:
        told += f"; not known of {unknown:,}, whose {found['private_rows']:,} private rows no other machine looks at"
    return told


def _labelled(one: Mapping[str, Any]) -> dict[str, Any]:
    learning, reference = one["learning"], one["reference"]
    if learning is not None:
        verdict, reason = "learning", f"{learning['labels']} labels; the first 100 become the reference"
    else:
        verdict = "worse" if one["is_worse"] else "none"
        now = "" if one["accuracy"] is None else f", {one['accuracy']:.1%} right of the newest {one['accuracy_rows']}"
        reason = f"{one['labels']:,} labels{now}; {reference['accuracy']:.1%} of {reference['rows']} of {one['reference_source']}"
    if one["contradictions"]:
        reason += f"; {one['contradictions']} answers got two labels that differ"
    found = one["verdict"]
    return {
        "model": one["model"],
        "version": one["version"],
        "seen_by": "labels",
        "verdict": verdict,
        "reason": reason,
        "findings": [] if found is None else [_loss(found)],
        "errors": one.get("errors"),
    }


def _loss(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "feature": "accuracy",
        "size": f"{found['reference_accuracy']:.1%} → {found['accuracy']:.1%}",
        "since": found["since_unix"],
        "kind": found["suspect"],
        "detail": found["detail"],
        "example": ", ".join(f"{m['label']} taken for {m['predicted']}: {m['rows']}" for m in found["mistakes"]),
        "next": found["next"],
    }


def _finding(found: Mapping[str, Any], offset_s: float) -> dict[str, Any]:
    bins = ", ".join(f"{b['bin']}: {b['reference']:.1%} → {b['live']:.1%}" for b in found["bins"][:3])
    since = found["since"]
    return {
        "feature": found["feature"],
        "size": "; ".join(f"{name} {found['size'][name]:.3g}" for name in SIZES if found["size"].get(name) is not None),
        "since": None if since is None else since + offset_s,
        "kind": found["suspect"],
        "detail": found["detail"],
        "example": bins,
        "next": found["next"],
    }
