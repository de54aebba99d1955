"""What is made of h2load's own words."""

import pytest

from benchmarks.serving.h2load import LoadError, _parse

TOLD = """finished in {seconds}s, {rate} req/s, 1.0MB/s
requests: {done} total, {done} started, {done} done, {ok} succeeded, {failed} failed, {errored} errored, 0 timeout
traffic: 1.0MB (1000000) total, 10KB (10000) headers (space savings 90.00%), 500KB (500000) data
"""


def told(done: int, failed: int = 0, errored: int = 0) -> str:
    ok = done - failed - errored
    return TOLD.format(seconds="1.00", rate=f"{done:.2f}", done=done, ok=ok, failed=failed, errored=errored)


def test_answers_are_counted() -> None:
    assert _parse(told(1000), 1.0, reply_bytes=500).requests == 1000


def test_why_a_server_is_missing_is_a_sentence() -> None:
    with pytest.raises(LoadError, match=r"^no request of h2load was answered within 0.3 s; measure longer$"):
        _parse(told(0), 0.3, reply_bytes=500)
    with pytest.raises(LoadError, match="of h2load's requests 10 done, 7 succeeded, 1 failed, 2 errored"):
        _parse(told(10, failed=1, errored=2), 0.3, reply_bytes=500)
