"""Triton's version policies, parsed and applied."""

from __future__ import annotations

import pytest

from runtime.engine.versions import VersionPolicy
from runtime.errors import WrongUseError


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("latest", [3]),
        ("latest:2", [2, 3]),
        ("latest:9", [1, 2, 3]),
        ("all", [1, 2, 3]),
        ("specific:1,3", [1, 3]),
        ("specific:7", []),
    ],
)
def test_policies_choose_from_what_is_there(text: str, chosen: list[int]) -> None:
    assert VersionPolicy.parse(text).choose([3, 1, 2]) == chosen


@pytest.mark.parametrize("text", ["", "newest", "latest:x", "specific:", "specific:a", "all:1"])
def test_other_words_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(WrongUseError, match="expected latest, latest:N, all or specific"):
        VersionPolicy.parse(text)
