"""Where a model errs, by labelled answers as they come: slices by bin and tag, confusion, calibration, the newest first."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime.monitoring.error_log import NEWEST, ErrorLog, SeenRow
from runtime.monitoring.performance import Labelled
from runtime.monitoring.row_bins import NOWHERE, bin_words, binned_features, bins_of_rows
from tests.runtime.monitoring.streams import baseline, rows


def seen(at: int, predicted: str, label: str, confidence: float | None = 0.9, **groups: str) -> SeenRow:
    return SeenRow(
        Labelled(f"r{at}\0{0}", predicted, label, predicted == label, 1e9 + at), f"r{at}", 0, confidence, groups
    )


def log_of(several: list[SeenRow], names: list[str] | None = None) -> dict[str, Any]:
    log = ErrorLog(names)
    for one in several:
        log.add(one)
    told = log.document()
    assert told is not None
    return told


def test_slices_confusion_calibration_and_the_newest_wrong_answers() -> None:
    rng = np.random.default_rng(1)
    several = []
    for at in range(1000):
        is_dark = at % 4 == 0
        is_wrong = rng.random() < (0.5 if is_dark else 0.02)
        groups = {"brightness": "below 0.2" if is_dark else "0.2 to 0.9", "tag site =": "north" if at % 2 else "south"}
        several.append(seen(at, "1" if is_wrong else "0", "0", 0.6 if is_dark else 0.98, **groups))
    told = log_of(several, ["zero", "one"])
    first = told["slices"][0]
    assert (first["slice"], first["is_proven"], first["rows"]) == ("brightness below 0.2", True, 250)
    assert first["loss"] > 0.4 > 0.1 > first["rest_loss"]
    assert told["confusion"][0] == {
        "label": "zero",
        "predicted": "one",
        "rows": told["wrong_rows"],
        "share": round(told["wrong_rows"] / 1000, 5),
    }
    dark, bright = told["calibration"]["curve"]
    assert (dark["confidence"], dark["rows"], bright["rows"]) == (0.6, 250, 750)
    assert dark["accuracy"] < 0.6 < 0.95 < bright["accuracy"]
    newest = told["newest_disagreements"]
    wrong = [one for one in several if not one.labelled.is_right]
    assert [one["request"] for one in newest] == [one.request_id for one in wrong[::-1][:10]]
    assert newest[0]["at_unix"] > newest[-1]["at_unix"]


def test_a_row_whose_labels_contradict_each_other_counts_for_nothing() -> None:
    log = ErrorLog(None)
    log.add(seen(1, "0", "0"))
    log.add(seen(1, "0", "0"))
    log.add(seen(2, "0", "1"))
    told = log.document()
    assert told is not None
    assert (told["rows"], told["wrong_rows"]) == (2, 1)
    log.add(seen(2, "0", "0"))
    told = log.document()
    assert told is not None
    assert (told["rows"], told["wrong_rows"], told["newest_disagreements"]) == (1, 0, [])


def test_only_the_newest_rows_are_kept_and_an_unknown_confidence_says_nothing() -> None:
    told = log_of([seen(at, "0", "1" if at < 100 else "0", None) for at in range(NEWEST + 100)])
    assert (told["rows"], told["wrong_rows"], told["calibration"]) == (NEWEST, 0, None)
    assert ErrorLog(None).document() is None


def test_rows_are_told_by_the_quarter_of_the_reference_they_lie_in() -> None:
    base = baseline()
    chosen = binned_features(base)
    assert [feature.name for feature, _ in chosen] == ["x[0]", "x[1]", "x[2]", "site"]
    inputs, _ = rows(3, 400)
    inputs["x"][0, 0], inputs["x"][1, 0], inputs["site"][2, 0] = np.nan, 1e9, b"nowhere"
    bins = np.array(bins_of_rows(base, inputs))
    words = [bin_words(reference) for _, reference in chosen]
    assert bins[0, 0] == NOWHERE
    assert words[0][bins[1, 0]].endswith("and above")
    assert words[3][bins[2, 3]] == "values never seen before"
    assert {words[3][at] for at in bins[3:, 3]} == {"north", "south", "west"}
    quarters = {word: np.mean([words[1][at] == word for at in bins[:, 1]]) for word in words[1]}
    inner = {word: share for word, share in quarters.items() if " to " in word}
    assert len(inner) == 4
    assert all(0.15 < share < 0.35 for share in inner.values()), inner
    assert bins_of_rows(base, {"x": inputs["x"]}) == [], "half of a row's inputs is no row"
