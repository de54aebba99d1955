"""What is to end before the interpreter does: each once, whatever becomes of the others."""

import pytest

from runtime.engine import before_exit
from runtime.engine.before_exit import end_before_exit


class Thread:
    def __init__(self, ended: list[str]) -> None:
        self.ended = ended

    def end(self) -> None:
        self.ended.append("ended")

    def fail(self) -> None:
        raise OSError("the disk is full")


def test_each_is_ended_once_and_one_that_fails_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []
    one, other = Thread(ended), Thread(ended)
    end_before_exit(one.fail)
    end_before_exit(one.end)
    end_before_exit(one.end)
    end_before_exit(other.end)
    del other
    before_exit._end_all()
    assert ended == ["ended"], "who is gone has nothing to end"
    assert "did not end as it should" in caplog.text
