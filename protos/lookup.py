"""Which of our `.proto` files has a name, or defines a symbol: what gRPC reflection tells."""

from collections.abc import Callable

from google.protobuf.descriptor import FileDescriptor

from protos._pool import file_named, file_with


def find_file(name: str) -> FileDescriptor | None:
    """The file of that name, such as `health.proto`."""
    return _or_none(file_named, name)


def find_symbol(name: str) -> FileDescriptor | None:
    """The file that defines a message, enum, service, method or field, by its full name: `inference.ModelInferRequest`."""
    return _or_none(file_with, name)


def _or_none(find: Callable[[str], FileDescriptor], name: str) -> FileDescriptor | None:
    try:
        return find(name)
    except KeyError:
        return None
