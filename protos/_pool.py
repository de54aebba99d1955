"""One private descriptor pool with our messages, and a file in it as a Python namespace.

Modules that protoc generates register in protobuf's default pool, where a second owner of a name
such as `inference.ModelInferRequest` raises. These messages stay out of it, and carry no generated
code that would tie them to one protobuf release. Building them is all that importing costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: all that a generic gRPC handler or a stub wants to know."""

    name: str
    path: str  # as in HTTP/2's `:path`: /package.Service/Name
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool


def _private_pool() -> DescriptorPool:
    data = resources.files("protos").joinpath("descriptors.binpb").read_bytes()
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL: Final = _private_pool()


def file_named(name: str) -> FileDescriptor:
    """The descriptor of one `.proto` file of this folder, such as `health.proto`."""
    return _POOL.FindFileByName(name)


def file_with(symbol: str) -> FileDescriptor:
    """The descriptor of the file that defines `symbol`, a full name; `KeyError` where none does."""
    try:
        return _POOL.FindFileContainingSymbol(symbol)
    except KeyError:  # of the members of its definitions it knows all but methods
        return _POOL.FindMethodByName(symbol).containing_service.file


def definitions(file: FileDescriptor) -> dict[str, Any]:
    """The file's messages, enums and enum values by name, as a generated module has them."""
    found: dict[str, Any] = {}
    for name, message in file.message_types_by_name.items():
        found[name] = _message_class(message)
    for name, enum in file.enum_types_by_name.items():
        found[name] = EnumTypeWrapper(enum)
        found.update((value.name, value.number) for value in enum.values)
    return found


def methods(service_name: str) -> Mapping[str, Method]:
    """The RPCs of a service, by their short names."""
    service = _POOL.FindServiceByName(service_name)
    return MappingProxyType(
        {
            method.name: Method(
                name=method.name,
                path=f"/{service.full_name}/{method.name}",
                request=GetMessageClass(method.input_type),
                response=GetMessageClass(method.output_type),
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
            )
            for method in service.methods
        }
    )


def _message_class(descriptor: Descriptor) -> type[Message]:
    cls = GetMessageClass(descriptor)
    for nested in descriptor.nested_types:
        nested_class = _message_class(nested)
        if not hasattr(cls, nested.name):  # protobuf without its C part does not do this itself
            setattr(cls, nested.name, nested_class)
    return cls
