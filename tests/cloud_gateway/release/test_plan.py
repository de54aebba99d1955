"""Plans: what follows from little, and what is refused with the place and the next step."""

import pytest

from cloud_gateway.guards import Metric
from cloud_gateway.release.plan import CANARY_STAGES, Strategy, check_plan, parse_plan
from runtime.errors import InvalidInputError

LEAST = 'model = "digits"\nstable = 1\ncandidate = 2\n'


def test_a_canary_says_its_stages_and_guards() -> None:
    plan = parse_plan(LEAST)
    assert plan.strategy is Strategy.CANARY
    assert plan.stages == CANARY_STAGES
    assert [guard.metric for guard in plan.guards] == [Metric.ERROR_RATE]
    assert plan.shadow is None
    assert plan.share(0) == 0.01


def test_a_shadow_has_no_stages_and_looks_at_answers() -> None:
    plan = parse_plan(LEAST + 'strategy = "shadow"')
    assert plan.stages == ()
    assert plan.shadow is not None
    assert {guard.metric for guard in plan.guards} == {Metric.ERROR_RATE, Metric.DISAGREEMENT}
    assert plan.share(0) == 0.0


@pytest.mark.parametrize("waves", ["[5, 1, 100]", "[0, 100]", "[1, 5]"])
def test_waves_rise_to_all_devices(waves: str) -> None:
    assert parse_plan(LEAST + "waves = [1, 5, 25, 100]").waves == (1, 5, 25, 100)
    with pytest.raises(InvalidInputError, match="expected rising percentages of the devices"):
        parse_plan(LEAST + f"waves = {waves}")
    with pytest.raises(InvalidInputError, match="a shadow is never promoted"):
        parse_plan(LEAST + 'strategy = "shadow"\nwaves = [100]')


def test_blue_green_switches_everything() -> None:
    assert parse_plan(LEAST + 'strategy = "blue_green"').stages == (100.0,)
    assert parse_plan(LEAST + 'strategy = "blue_green"\nstages = [50, 100]').stages == (50.0, 100.0)


def test_a_plan_survives_the_database() -> None:
    for strategy in Strategy:
        plan = parse_plan(LEAST + f'strategy = "{strategy}"\nwebhook = "http://127.0.0.1:1/x"')
        assert check_plan(plan.model_dump(mode="json")) == plan


GUARD = '[[guards]]\nmetric = "{}"\nmargin = 0.01\n'


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("candidat = 3", "unknown key 'candidat'; did you mean 'candidate'"),
        ("stages = [1, 5, 5, 100]", "do not rise"),
        ("stages = [1, 50]", "end at 50 %; the last stage of a release is 100"),
        ("stages = [5, 1, 100]", "do not rise"),
        ("stages = [0, 100]", "begin with 0 %"),
        ("stages = [0.1, 0.5, 1, 100]", "look like fractions"),
        ("stages = [1, 150]", "less than or equal to 100; got 150"),
        ("stages = [-1, 100]", "greater than or equal to 0"),
        ("stages = [nan, 100]", "finite"),
        ('strategy = "shadow"\nstages = [1, 100]', "a shadow gets no traffic"),
        ('strategy = "canery"', "'shadow', 'canary' or 'blue_green'; got 'canery'"),
        ("hold_s = -1", "greater than or equal to 0"),
        ("hold_s = inf", "finite"),
        ("alpha = 0.5", "less than 0.5"),
        ('webhook = "ftp://host/x"', "expected http://host/path"),
        ('webhook = "nowhere"', "expected http://host/path"),
        (GUARD.format("disagreement"), "add a \\[shadow\\] table"),
        (GUARD.format("error_rate") * 2, "guard error_rate stands twice"),
        ('[[guards]]\nmetric = "error_rate"\nmargn = 0.01', "unknown key 'guards.0.margn'; did you mean 'margin'"),
        ('[[guards]]\nmetric = "error_rate"', "guards.0.margin is missing"),
        ("[shadow]\nque = 3", "unknown key 'shadow.que'; did you mean 'queue'"),
        ("[shadow]\nshare = 101", "less than or equal to 100"),
        ("oops", "is not TOML"),
    ],
)
def test_wrong_plans_say_what_is_wrong(more: str, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        parse_plan(LEAST + more, "plan.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('model = "digits"\nstable = 1', "candidate is missing"),
        ('model = "digits"\nstable = 1\ncandidate = 1', "both version 1"),
        ('model = "../digits"\nstable = 1\ncandidate = 2', "is no model name"),
        ('model = "digits"\nstable = 0\ncandidate = 2', "greater than or equal to 1"),
        ('model = "digits"\nstable = "x"\ncandidate = 2', "stable: .*valid integer"),
    ],
)
def test_wrong_versions(text: str, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        parse_plan(text)
