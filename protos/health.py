"""The standard gRPC health service (grpc.health.v1): messages, enums and the method table.

The names are those of `health.proto`; `health.pyi` tells type checkers about them.
"""

from typing import Final

from protos._pool import definitions, file_named, methods

DESCRIPTOR: Final = file_named("health.proto")
SERVICE: Final = "grpc.health.v1.Health"
METHODS: Final = methods(SERVICE)

globals().update(definitions(DESCRIPTOR))
