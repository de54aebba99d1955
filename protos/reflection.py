"""gRPC server reflection (grpc.reflection.v1): messages and the method table.

The names are those of `reflection.proto`; `reflection.pyi` tells type checkers about them.
"""

from typing import Final

from protos._pool import definitions, file_named, methods

DESCRIPTOR: Final = file_named("reflection.proto")
SERVICE: Final = "grpc.reflection.v1.ServerReflection"
METHODS: Final = methods(SERVICE)

globals().update(definitions(DESCRIPTOR))
