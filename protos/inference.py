"""The Open Inference Protocol v2 with Triton's extensions: messages, enums and the method table.

The names are those of `inference.proto`; `inference.pyi` tells type checkers about them.
"""

from typing import Final

from protos._pool import definitions, file_named, methods

DESCRIPTOR: Final = file_named("inference.proto")
SERVICE: Final = "inference.GRPCInferenceService"
METHODS: Final = methods(SERVICE)

globals().update(definitions(DESCRIPTOR))
