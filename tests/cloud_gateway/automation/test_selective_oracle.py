"""Selective risk against MAPIE's risk control: an independent code that may look only once."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_gateway.automation.selective import THRESHOLDS, SelectiveRisk

risk_control = pytest.importorskip("mapie.risk_control", reason="MAPIE is not installed (extra test)")

RISK, ALPHA = 0.05, 0.05


@pytest.mark.parametrize("seed", range(5))
def test_what_is_proven_at_any_time_is_proven_to_who_looks_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidences = rng.uniform(0.4, 1.0, 8000)
    is_right = rng.random(8000) >= (1 - confidences) * 0.4
    ours = SelectiveRisk(RISK, ALPHA)
    for confidence, right in zip(confidences, is_right, strict=True):
        ours.observe(float(confidence), float(not right))
    oracle = risk_control.BinaryClassificationController(
        lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="precision",
        target_level=1 - RISK,
        confidence_level=1 - ALPHA,
        list_predict_params=np.array(sorted(THRESHOLDS)),
        fwer_method="bonferroni",
    )
    oracle.calibrate(confidences[:, None], is_right.astype(int))
    valid = {round(float(at), 6) for at in np.ravel(oracle.valid_predict_params)}
    proven = {at.confidence for at in ours.describe() if at.is_proven}
    assert proven <= valid
    assert proven, "and not because nothing is proven"
    # The price of looking at all times: at most two steps of the grid.
    assert sorted(THRESHOLDS).index(min(proven)) - sorted(THRESHOLDS).index(min(valid)) <= 2
