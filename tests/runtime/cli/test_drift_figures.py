"""Figures of a drift report, as people read them."""

from runtime.cli.drift_figures import HEAD, figure_rows


def test_figures_have_words_and_units_and_a_dash_where_nothing_is_known() -> None:
    rows = figure_rows(
        [
            {
                "figure": "accuracy",
                "target": 0.975,
                "training": None,
                "dev": 0.993333,
                "live": 0.99333,
                "estimated": 0.9,
            },
            {"figure": "p95_latency_ms", "target": 10, "training": None, "dev": None, "test": 0.2, "live": 0.158},
            {"figure": "rows_per_s", "target": 200, "training": None, "dev": None, "live": 4941.9},
        ]
    )
    assert rows == [
        ["accuracy", "97.50%", "–", "99.33%", "–", "99.33%", "90.00%"],
        ["95 % of requests within", "10.0 ms", "–", "–", "0.200 ms", "0.158 ms", "–"],
        ["rows a second", "200", "–", "–", "–", "4,942", "–"],
    ]
    assert {len(row) for row in rows} == {len(HEAD)}
