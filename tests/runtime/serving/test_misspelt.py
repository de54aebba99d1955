"""A parameter one letter away from one that means something is refused; callers' own are taken."""

import pytest

from runtime.errors import InvalidInputError
from runtime.serving.misspelt import KnownNames
from runtime.serving.request_parameters import check_parameters

KNOWN = KnownNames(("route", "privacy", "async", "timeout", "sequence_id", "sequence_end"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("prioritiy", None),  # no name of these
        ("privcy", "privacy"),
        ("privacyy", "privacy"),
        ("prifacy", "privacy"),
        ("prviacy", "privacy"),
        ("Privacy", None),
        ("sequence_idd", "sequence_id"),
        ("sequence-id", "sequence_id"),
        ("asnyc", "async"),
        ("sync", None),
        ("routes", None),
        ("router", "route"),
        ("route_id", None),
        ("timeout_ms", None),
        ("timeouts", None),
        ("", None),
        ("p" * 100_000, None),
    ],
)
def test_one_letter_is_a_slip_and_more_is_a_name_of_the_callers_own(name: str, meant: str | None) -> None:
    assert KNOWN.meant_by(name) == meant


def test_what_is_spelt_right_is_no_slip_of_another() -> None:
    close = KnownNames(("route", "router"))
    close.check({"route": 1, "router": 2, "user": 3})


def test_the_name_that_was_meant_is_said() -> None:
    with pytest.raises(InvalidInputError, match="parameter 'prioritiy' means nothing here; 'priority' was meant"):
        check_parameters({"mine": 1, "prioritiy": 1})
