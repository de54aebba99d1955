"""A guard's settings: what does not fit together is refused with what was expected."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cloud_gateway.guards import GuardSettings, Metric


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metric": "error_rate", "margin": 0}, "greater than 0"),
        ({"metric": "error_rate", "margin": 1.0}, "rules nothing out"),
        ({"metric": "loss", "margin": 3, "bounds": (0, 3)}, "expected less than 3"),
        ({"metric": "business", "name": "clicks", "margin": 3, "bounds": (0, 3)}, "expected less than 3"),
        ({"metric": "errors", "margin": 0.1}, "error_rate"),
        ({"metric": "error_rate", "margin": 0.01, "tolerance": 0.02}, "over the margin"),
        ({"metric": "business", "margin": 0.01}, "has a name"),
        ({"metric": "error_rate", "margin": 0.01, "name": "x"}, "has a name"),
        ({"metric": "latency", "margin": 0.1, "bounds": (0, 1)}, "bounds are for"),
        ({"metric": "loss", "margin": 0.1, "bounds": (1, 0)}, "the lower one first"),
        ({"metric": "loss", "margin": 0.1, "marginn": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GuardSettings.model_validate(values)


def test_where_values_have_no_end_any_margin_rules_something_out() -> None:
    for values in ({"metric": "latency"}, {"metric": "business", "name": "clicks"}):
        assert GuardSettings.model_validate({**values, "margin": 5.0}).span is None


def test_two_versions_may_always_disagree_as_much_as_the_margin() -> None:
    assert GuardSettings(metric=Metric.DISAGREEMENT, margin=0.1).tolerated == 0.1
    assert GuardSettings(metric=Metric.ERROR_RATE, margin=0.1).tolerated == 0.0


def test_labels_say_which_quantile() -> None:
    assert GuardSettings(metric=Metric.LATENCY, margin=0.1, quantile=0.999).label == "latency p99.9"
