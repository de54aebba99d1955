"""What a request says about its own routing: parameters read and checked, and kept off the wire to the cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

from edge_agent.plan import RequestFacts
from edge_agent.rules import Policy, Rule
from edge_agent.spool.spool import ASYNC, RESULT_OF
from runtime.errors import InvalidInputError
from runtime.serving.misspelt import KnownNames
from runtime.serving.request_parameters import LOOKED_AT
from runtime.wire.values import InferenceRequest, Parameter, Privacy, Route

DEFAULT_DEADLINE_S: Final = 10.0
"""Nobody should wait for ever because no deadline was given: long enough for a large model on a slow device and a fallback after
it, short enough for a person to see an error rather than a hanging program."""
IDEMPOTENT: Final = "idempotent"
"""Request parameter (bool): false forbids that the request runs twice. Without it, only parts of a sequence must not."""
_SEQUENCE: Final = ("sequence_id", "sequence_start", "sequence_end")
_OURS: Final = frozenset({"route", "privacy", "policy", IDEMPOTENT})
_KNOWN: Final = KnownNames((*_OURS, ASYNC, RESULT_OF, *LOOKED_AT))
"""With what the spool looks at before, and the models after."""

E = TypeVar("E", Route, Privacy, Policy)


def facts_of(request: InferenceRequest, default_deadline: float) -> RequestFacts:
    """What the decision needs to know of `request`.

    `InvalidInputError` for a value that a parameter cannot have, and for a name that is misspelt.
    """
    if not request.parameters:
        deadline = default_deadline if request.deadline is None else request.deadline
        return RequestFacts(Route.AUTO, Privacy.ANY, deadline)
    _KNOWN.check(request.parameters)
    route = request.parameters.get("route")
    return RequestFacts(
        route=Route.AUTO if route is None else _one_of(Route, "route", route),
        privacy=_privacy_of(request),
        deadline=default_deadline if request.deadline is None else request.deadline,
        is_idempotent=_is_idempotent(request),
    )


def policy_of(request: InferenceRequest) -> Policy | None:
    """The policy that the request asks for; None: the rule's."""
    policy = request.parameters.get("policy")
    return None if policy is None else _one_of(Policy, "policy", policy)


def is_private(request: InferenceRequest, rule: Rule) -> bool:
    """Whether nothing of the request may leave the device: by its model's rule, or because it says so."""
    return rule.asked_for(None, _privacy_of(request)).privacy is Privacy.LOCAL_ONLY


def for_the_cloud(request: InferenceRequest) -> InferenceRequest:
    """The request as it travels: what was said to the agent stays here."""
    theirs = {name: value for name, value in request.parameters.items() if name not in _OURS}
    return replace(request, parameters=theirs)


def _privacy_of(request: InferenceRequest) -> Privacy:
    privacy = request.parameters.get("privacy") if request.parameters else None
    return Privacy.ANY if privacy is None else _one_of(Privacy, "privacy", privacy)


def _is_idempotent(request: InferenceRequest) -> bool:
    said = request.parameters.get(IDEMPOTENT)
    if said is None:
        # 0 and the empty string say "no sequence", as in Triton.
        return not any(request.parameters.get(name) for name in _SEQUENCE)
    if not isinstance(said, bool):
        raise InvalidInputError(f"parameter {IDEMPOTENT!r} is {said!r:.80}; expected true or false")
    return said


def _one_of(kind: type[E], name: str, value: Parameter) -> E:
    try:
        return kind(value)  # type: ignore[arg-type]  # another type is no member either
    except ValueError:
        raise InvalidInputError(f"parameter {name!r} is {value!r}; expected one of {', '.join(kind)}") from None
