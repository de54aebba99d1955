"""Our inference.proto is Triton's on the wire: same numbers, types, oneofs, methods, and bytes."""

from typing import Any

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from protos import inference

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is what our messages are compared with")

from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc


def as_proto(file: FileDescriptor) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


OURS = as_proto(inference.DESCRIPTOR)
THEIR_SERVICE = as_proto(service_pb2.DESCRIPTOR)
THEIR_CONFIG = as_proto(model_config_pb2.DESCRIPTOR)


def fields_by_message(file: FileDescriptorProto) -> dict[str, dict[str, tuple[Any, ...]]]:
    """What the wire and the generated API depend on, of each field of each message."""
    found: dict[str, dict[str, tuple[Any, ...]]] = {}

    def visit(message: DescriptorProto, prefix: str) -> None:
        name = prefix + message.name
        found[name] = {
            field.name: (
                field.number,
                field.Type.Name(field.type),
                field.Label.Name(field.label),
                field.type_name,
                message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
                field.proto3_optional,
                field.options.SerializeToString(deterministic=True),
            )
            for field in message.field
        }
        for nested in message.nested_type:
            visit(nested, f"{name}.")

    for message in file.message_type:
        visit(message, "")
    return found


def enums_by_name(file: FileDescriptorProto) -> dict[str, dict[str, int]]:
    found = {enum.name: {value.name: value.number for value in enum.value} for enum in file.enum_type}

    def visit(message: DescriptorProto, prefix: str) -> None:
        name = prefix + message.name
        for enum in message.enum_type:
            found[f"{name}.{enum.name}"] = {value.name: value.number for value in enum.value}
        for nested in message.nested_type:
            visit(nested, f"{name}.")

    for message in file.message_type:
        visit(message, "")
    return found


OUR_FIELDS = fields_by_message(OURS)
PROTOCOL_FIELDS = fields_by_message(THEIR_SERVICE)
TRITON_FIELDS = PROTOCOL_FIELDS | fields_by_message(THEIR_CONFIG)
CONFIG_MESSAGES = sorted(OUR_FIELDS.keys() - PROTOCOL_FIELDS.keys())


@pytest.mark.parametrize("message", sorted(PROTOCOL_FIELDS))
def test_a_message_of_the_protocol_is_there_whole(message: str) -> None:
    assert OUR_FIELDS[message] == PROTOCOL_FIELDS[message]


@pytest.mark.parametrize("message", CONFIG_MESSAGES)
def test_every_field_of_our_model_config_is_tritons(message: str) -> None:
    tritons = TRITON_FIELDS[message]
    assert {name: tritons.get(name) for name in OUR_FIELDS[message]} == OUR_FIELDS[message]


@pytest.mark.parametrize("message", CONFIG_MESSAGES)
def test_numbers_of_model_config_that_we_leave_out_are_reserved(message: str) -> None:
    descriptor = inference.DESCRIPTOR.pool.FindMessageTypeByName(f"inference.{message}")
    proto = DescriptorProto()
    descriptor.CopyToProto(proto)
    reserved = {number for span in proto.reserved_range for number in range(span.start, span.end)}
    left_out = {field[0] for name, field in TRITON_FIELDS[message].items() if name not in OUR_FIELDS[message]}
    assert left_out <= reserved


def test_enums_have_tritons_values() -> None:
    tritons = enums_by_name(THEIR_SERVICE) | enums_by_name(THEIR_CONFIG)
    ours = enums_by_name(OURS)
    assert "DataType" in ours
    assert {name: tritons.get(name) for name in ours} == ours


def test_package_and_syntax_are_tritons() -> None:
    assert (OURS.package, OURS.syntax) == (THEIR_SERVICE.package, THEIR_SERVICE.syntax)


class PathRecorder:
    """Stands in for a grpc.Channel: keeps the path and the kind of call that a stub asks for."""

    def __init__(self) -> None:
        self.kinds: dict[str, tuple[bool, bool]] = {}

    def _record(self, path: str, client_streaming: bool, server_streaming: bool) -> None:
        self.kinds[path] = (client_streaming, server_streaming)

    def unary_unary(self, path: str, **_: Any) -> None:
        self._record(path, False, False)

    def unary_stream(self, path: str, **_: Any) -> None:
        self._record(path, False, True)

    def stream_unary(self, path: str, **_: Any) -> None:
        self._record(path, True, False)

    def stream_stream(self, path: str, **_: Any) -> None:
        self._record(path, True, True)


def test_methods_have_the_paths_and_streaming_kinds_that_tritons_stub_calls() -> None:
    channel = PathRecorder()
    service_pb2_grpc.GRPCInferenceServiceStub(channel)
    ours = {method.path: (method.client_streaming, method.server_streaming) for method in inference.METHODS.values()}
    assert ours == channel.kinds


def test_methods_take_and_return_tritons_messages() -> None:
    (service,) = THEIR_SERVICE.service
    tritons = {method.name: (method.input_type, method.output_type) for method in service.method}
    ours = {
        name: (f".{method.request.DESCRIPTOR.full_name}", f".{method.response.DESCRIPTOR.full_name}")
        for name, method in inference.METHODS.items()
    }
    assert ours == tritons


def filled(message: Message, deep: int = 6) -> Message:
    """The message with something other than the default in every field (one of each oneof)."""
    values: dict[str, Any] = {
        "bool": True, "string": "é", "bytes": b"\x00\xff", "float": 0.5, "double": -2.25,
        "int32": -3, "int64": -(2**40), "uint32": 2**31, "uint64": 2**63,
    }  # fmt: skip
    proto = DescriptorProto()
    message.DESCRIPTOR.CopyToProto(proto)
    for field in proto.field:
        kind = field.Type.Name(field.type).removeprefix("TYPE_").lower()
        descriptor: Any = message.DESCRIPTOR.fields_by_name[field.name]
        target = getattr(message, field.name)
        repeated = field.label == field.LABEL_REPEATED
        if kind == "message" and descriptor.message_type.GetOptions().map_entry:
            key, value = descriptor.message_type.fields
            entry_key = "key" if key.type == key.TYPE_STRING else 7
            if value.message_type is None:
                target[entry_key] = "value"
            elif deep:
                filled(target[entry_key], deep - 1)
        elif kind == "message":
            if deep:
                filled(target.add() if repeated else target, deep - 1)
        else:
            value = descriptor.enum_type.values[-1].number if kind == "enum" else values[kind]
            if repeated:
                target.extend([value, value])
            else:
                setattr(message, field.name, value)
    return message


@pytest.mark.parametrize("name", sorted(inference.DESCRIPTOR.message_types_by_name))
def test_tritons_client_reads_the_bytes_of_a_full_message_and_writes_them_back(name: str) -> None:
    their_module = service_pb2 if hasattr(service_pb2, name) else model_config_pb2
    ours = filled(getattr(inference, name)())
    theirs = getattr(their_module, name).FromString(ours.SerializeToString())
    assert MessageToDict(theirs) == MessageToDict(ours)
    assert theirs.SerializeToString(deterministic=True) == ours.SerializeToString(deterministic=True)


def test_a_request_built_with_tritonclient_parses_to_the_same_fields() -> None:
    theirs = service_pb2.ModelInferRequest(model_name="digits", model_version="3", id="a1")
    theirs.parameters["route"].string_param = "edge"
    theirs.parameters["priority"].uint64_param = 2
    image = theirs.inputs.add(name="image", datatype="FP32", shape=[1, 2])
    image.parameters["binary_data_size"].int64_param = 8
    theirs.inputs.add(name="count", datatype="INT64", shape=[1]).contents.int64_contents.append(-1)
    theirs.outputs.add(name="label").parameters["classification"].int64_param = 5
    theirs.raw_input_contents.append(b"\x00\x00\x80?\x00\x00\x00@")

    ours = inference.ModelInferRequest.FromString(theirs.SerializeToString())

    assert (ours.model_name, ours.model_version, ours.id) == ("digits", "3", "a1")
    assert ours.parameters["route"].WhichOneof("parameter_choice") == "string_param"
    assert ours.parameters["route"].string_param == "edge"
    assert ours.parameters["priority"].uint64_param == 2
    assert [(t.name, t.datatype, list(t.shape)) for t in ours.inputs] == [
        ("image", "FP32", [1, 2]),
        ("count", "INT64", [1]),
    ]
    assert not ours.inputs[0].HasField("contents")
    assert list(ours.inputs[1].contents.int64_contents) == [-1]
    assert ours.outputs[0].parameters["classification"].int64_param == 5
    assert list(ours.raw_input_contents) == [b"\x00\x00\x80?\x00\x00\x00@"]
    assert service_pb2.ModelInferRequest.FromString(ours.SerializeToString()) == theirs
