"""How much is too much, and within which time."""

from __future__ import annotations

import pytest

from runtime.serving.http2.frames import ConnectionFault, ErrorCode
from runtime.serving.http2.tally import Tally


def test_one_too_many_within_the_time_is_too_much() -> None:
    tally = Tally(3, 10, "things happened")
    for now in (100.0, 105.0, 110.0):
        tally.note(now)
    with pytest.raises(ConnectionFault, match="more than 3 things happened within 10 s") as caught:
        tally.note(110.0)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_later_they_count_anew() -> None:
    tally = Tally(3, 10, "things happened")
    for now in (1.0, 1.0, 1.0, 11.1, 11.1, 11.1, 22.0):
        tally.note(now)
