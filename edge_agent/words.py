"""What `agent status` says for the names that decisions, logs and metrics use: for people who have read neither."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from edge_agent.counts import Hedge
from edge_agent.plan import Why
from edge_agent.rules import Policy
from runtime.wire.values import Privacy, ServedBy

WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        Why.FIRST_CHOICE: "as its policy says",
        Why.ASKED_FOR: "because the request named this side",
        Why.PRIVACY: "because it must not leave the device",
        Why.MODEL_MISSING: "because the model is not on the device",
        Why.MODEL_NOT_READY: "because the model was not loaded yet",
        Why.TOO_SLOW: "because the other side would have been late",
        Why.MEMORY_SHORT: "because the device was short of memory",
        Why.BREAKER_OPEN: "because the gateway was not asked after failures",
        Why.NO_GATEWAY: "because there is no gateway",
        Why.EDGE_FAILED: "after the device failed",
        Why.CLOUD_FAILED: "after the gateway failed",
        Why.EDGE_LATE: "while the device was late",
        Why.CLOUD_LATE: "while the gateway was late",
        Why.TRIAL: "to see how fast that side is now",
        Why.BESIDE_TRIAL: "while the other side was tried",
        Why.CONFIDENT: "with a sure enough answer",
        Why.UNSURE: "after an answer of the device that was not sure enough",
        Why.UNSURE_ALONE: "with an unsure answer, for the gateway gave none",
    }
)
POLICY: Final[Mapping[str, str]] = MappingProxyType(
    {
        Policy.EDGE_FIRST: "this device first, then the gateway",
        Policy.EDGE_ONLY: "this device only",
        Policy.CLOUD_FIRST: "the gateway first, then this device",
        Policy.CLOUD_ONLY: "the gateway only",
        Policy.FASTEST: "whichever is faster",
    }
)
ALONE: Final = "this device alone, for it has no gateway"
PRIVACY: Final[Mapping[str, str]] = MappingProxyType(
    {Privacy.ANY: "may leave the device", Privacy.LOCAL_ONLY: "never leaves the device"}
)
ANSWERED: Final[Mapping[str, str]] = MappingProxyType(
    {ServedBy.EDGE: "answered here", ServedBy.CLOUD: "answered by the gateway", "failed": "failed"}
)
ASKED: Final[Mapping[str, str]] = MappingProxyType({ServedBy.EDGE: "to this device", ServedBy.CLOUD: "to the gateway"})
SECOND_CALL: Final[Mapping[str, str]] = MappingProxyType(
    {Hedge.SENT: "sent", Hedge.WON: "answered first", Hedge.HELD_BACK: "held back by their budget"}
)
BREAKER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "closed": "requests go there",
        "open": "no requests go there after failures",
        "half_open": "one request tries whether it answers again",
    }
)


def counted(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    """As in "3 sent, 1 answered first"; a name without a word stays as it is."""
    return ", ".join(f"{count} {words.get(name, name)}" for name, count in counts.items() if count) or "none"
