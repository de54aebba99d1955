"""Whether keys are split between the arms as planned: each key counts once, in a fixed amount of memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final, Self

from runtime.sequential import SampleRatio

# A key counts when its bit is seen for the first time. A bit is shared by chance, so whether a key counts has nothing to do
# with its arm; when most bits are set, few keys count any more and the check has what it needs: 65,536 keys.
BITS: Final = 1 << 16
ALPHA: Final = 0.001
"""Apart from the guards' alpha: how often a right split is called wrong, over a whole stage."""


class SplitCheck:
    """Counts first sights of keys by arm; says when that cannot be the planned split."""

    def __init__(self, planned_share: float) -> None:
        self.planned_share = planned_share
        self._seen = bytearray(BITS // 8)
        has_both = 0.0 < planned_share < 1.0
        self._ratio = SampleRatio((1.0 - planned_share, planned_share)) if has_both else None

    def observe(self, key: str, is_candidate: bool) -> None:
        """Takes in one request."""
        if self._ratio is None:
            return
        # Another hash than the one that routes, or seen and unseen bits would follow the arms.
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=4, person=b"sample-ratio").digest()
        at = int.from_bytes(digest, "little") % BITS
        mask = 1 << (at % 8)
        if not self._seen[at // 8] & mask:
            self._seen[at // 8] |= mask
            self._ratio.observe(int(is_candidate))

    @property
    def complaint(self) -> str:
        """Why the split cannot be trusted; empty while nothing speaks against it."""
        if self._ratio is None or self._ratio.e_value < 1.0 / ALPHA:
            return ""
        stable, candidate = self._ratio.counts
        return (
            f"traffic is not split as planned: the candidate has {candidate} of {stable + candidate} keys "
            f"({candidate / (stable + candidate):.2%}), {self.planned_share:.2%} is planned (e-value {self._ratio.e_value:.3g}); "
            "no comparison of the arms can be trusted until the routing is mended"
        )

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "planned_share": self.planned_share,
            "seen": base64.b64encode(self._seen).decode("ascii"),
            "ratio": None if self._ratio is None else self._ratio.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(state["planned_share"])
        made._seen = bytearray(base64.b64decode(state["seen"]))
        if state["ratio"] is not None:
            made._ratio = SampleRatio.from_state(state["ratio"])
        return made
