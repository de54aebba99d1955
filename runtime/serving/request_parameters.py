"""Request parameters of Triton that the data plane looks at: checked wherever they mean something, and said where not.

`timeout` is read by the transports (see `deadlines`), `binary_data*` and `shared_memory_*` by the codecs; over gRPC, where
`binary_data_output` is a parameter like others until the reply is made, it is checked here.
"""

from __future__ import annotations

from runtime.errors import InvalidInputError
from runtime.serving.deadlines import TIMEOUT_PARAMETER
from runtime.serving.misspelt import KnownNames
from runtime.serving.timing import TIMING
from runtime.wire.idempotency import IDEMPOTENCY_KEY
from runtime.wire.values import BINARY_DATA_OUTPUT, Parameters

# Behind every explicit priority.
DEFAULT_PRIORITY = 1 << 31

RESERVED = "triton_"
EMPTY_FINAL = "triton_enable_empty_final_response"
PRIORITY = "priority"
SEQUENCE_ID, SEQUENCE_START, SEQUENCE_END = "sequence_id", "sequence_start", "sequence_end"

LOOKED_AT = (
    TIMEOUT_PARAMETER,
    PRIORITY,
    SEQUENCE_ID,
    SEQUENCE_START,
    SEQUENCE_END,
    EMPTY_FINAL,
    BINARY_DATA_OUTPUT,
    TIMING,
    IDEMPOTENCY_KEY,
)
"""What means something wherever models are served; an idempotency key to what stands before them."""
_KNOWN = KnownNames(LOOKED_AT)


def check_parameters(parameters: Parameters) -> None:
    """`InvalidInputError` for a parameter of Triton's that has a value it cannot have, and for one that is misspelt.

    `sequence_*` are accepted and change nothing, as in Triton for a model without sequence batching: no model here keeps state.
    """
    _KNOWN.check(parameters)
    for name in (SEQUENCE_START, SEQUENCE_END, EMPTY_FINAL, BINARY_DATA_OUTPUT):
        if not isinstance(parameters.get(name, False), bool):
            raise InvalidInputError(f"parameter {name!r} is {parameters[name]!r:.80}; expected true or false")
    sequence = parameters.get(SEQUENCE_ID, 0)
    if not isinstance(sequence, str) and (type(sequence) is not int or not 0 <= sequence < 2**64):
        raise InvalidInputError(
            f"parameter 'sequence_id' is {sequence!r:.80}; expected a number from 0 on, or a string"
        )
    for name in parameters:
        if name.startswith(RESERVED) and name != EMPTY_FINAL:
            raise InvalidInputError(
                f"parameter {name!r:.80}: names that begin with {RESERVED!r} are the protocol's own"
            )


def priority_of(parameters: Parameters) -> int:
    """Triton's `priority`: 1 is the highest, 0 or absent the default (here behind the explicit ones)."""
    value = parameters.get(PRIORITY, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInputError(f"parameter 'priority' is {value!r}; expected 0 (default) or 1 (highest) and up")
    return value or DEFAULT_PRIORITY
