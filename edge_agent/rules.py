"""How one model's requests are routed: the values that routing decides by, as settings and requests ask for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from runtime.wire.values import Privacy


class Policy(StrEnum):
    """Who answers a request that does not say itself."""

    EDGE_FIRST = "edge_first"
    EDGE_ONLY = "edge_only"
    CLOUD_FIRST = "cloud_first"
    CLOUD_ONLY = "cloud_only"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class Rule:
    """One model's rule."""

    policy: Policy = Policy.EDGE_FIRST
    privacy: Privacy = Privacy.ANY
    """LOCAL_ONLY: no request for this model leaves the device, whatever the request says."""
    hedge: bool = True
    """Whether the other arm is asked too when the first takes longer than it usually does."""
    threshold: float | None = None
    """Of the cascade: the calibrated confidence from which the local answer stands; None: no cascade."""

    def asked_for(self, policy: Policy | None, privacy: Privacy) -> Rule:
        """The rule under what a request asks for: its policy outranks this one, its privacy can only be stricter.

        A request with a policy of its own has asked for that order and no cascade, unless it is the cascade's own.
        """
        changed = self
        if policy is not None and policy is not self.policy:
            changed = replace(changed, policy=policy, threshold=None)
        if privacy is Privacy.LOCAL_ONLY:
            changed = replace(changed, privacy=privacy)
        return changed
