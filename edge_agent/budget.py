"""Budgets for extra work: hedges and retries may be a share of the requests, so that trouble is not answered with load; what
statistics may take of a link. Pure.
"""

from __future__ import annotations

from typing import Final

# As many as may be spent at once after a quiet time: a burst of late answers is answered, a storm is not.
DEFAULT_BURST: Final = 10.0
# The tail beyond the 95th percentile, which is what hedges are for; more would be load without an effect on the tail.
HEDGE_SHARE: Final = 0.05
# Retries may be a fifth of the requests: one lost call in five is made good, and an outage is not answered with twice the load.
RETRY_SHARE: Final = 0.2
# A window of statistics of a model with 30 features takes about 50 KB, so one every three minutes; 25 MB a day over a mobile link.
BYTES_PER_HOUR: Final = 1 << 20


class TokenBucket:
    """Every request pays `share` of a token in, up to `burst`; every extra call takes a whole one. Used from one thread.

    It begins with one token, so that the first request of a fresh agent is not the one that has to wait.
    """

    def __init__(self, share: float, burst: float = DEFAULT_BURST) -> None:
        self._share = share
        self._burst = burst
        self._tokens = min(1.0, burst) if share > 0 else 0.0

    @property
    def tokens(self) -> float:
        """What is left: from 1 on, one may be taken."""
        return self._tokens

    def note_request(self) -> None:
        """One request pays in."""
        self._tokens = min(self._tokens + self._share, self._burst)

    def take(self) -> bool:
        """Takes a token; False, and nothing taken, when there is no whole one."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
