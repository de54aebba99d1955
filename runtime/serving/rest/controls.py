"""Triton's extensions on REST that concern the server rather than a model: shared memory, log and trace settings."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from runtime.errors import InvalidInputError
from runtime.serving.controls import Controls
from runtime.wire.rest_body import parse_object


def system_status_json(controls: Controls, name: str) -> list[dict[str, Any]]:
    """Body of `GET /v2/systemsharedmemory[/region/NAME]/status`."""
    return [
        {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.size_bytes}
        for region in controls.memory.system_status(name)
    ]


def register_system(controls: Controls, name: str, body: bytes) -> None:
    """`POST /v2/systemsharedmemory/region/NAME/register`."""
    document = parse_object(body)
    key, offset, size = document.get("key"), document.get("offset", 0), document.get("byte_size")
    if not isinstance(key, str):
        raise InvalidInputError(
            f"`key` is {key!r:.80}; expected the key of a shared memory object, such as '/input_data'"
        )
    if type(offset) is not int or type(size) is not int:
        raise InvalidInputError(f"`offset` is {offset!r:.80} and `byte_size` {size!r:.80}; expected numbers of bytes")
    controls.memory.register_system(name, key, offset, size)


def cuda_status_json(controls: Controls, name: str) -> list[dict[str, Any]]:
    """Body of `GET /v2/cudasharedmemory[/region/NAME]/status`."""
    return [
        {"name": region.name, "device_id": region.device, "byte_size": region.size_bytes}
        for region in controls.memory.cuda_status(name)
    ]


async def register_cuda(controls: Controls, name: str, body: bytes) -> None:
    """`POST /v2/cudasharedmemory/region/NAME/register`."""
    await controls.memory.require_cuda()
    document = parse_object(body)
    device, size = document.get("device_id"), document.get("byte_size")
    if type(device) is not int or type(size) is not int:
        raise InvalidInputError(f"`device_id` is {device!r:.80} and `byte_size` {size!r:.80}; expected numbers")
    await controls.memory.register_cuda(name, _handle(document.get("raw_handle")), device, size)


def _handle(given: object) -> bytes:
    try:
        if isinstance(given, dict):
            # Triton's C++ client breaks it into lines of 72 characters.
            return base64.b64decode("".join(given["b64"].split()), validate=True)
    except (AttributeError, KeyError, ValueError):
        pass
    raise InvalidInputError(f'`raw_handle` is {given!r:.80}; expected {{"b64": "a cudaIpcMemHandle_t in base64"}}')


def change_trace(controls: Controls, model: str, body: bytes) -> None:
    """`POST /v2[/models/NAME]/trace/setting`: values are strings, lists of them, numbers, or null for "as before"."""
    changes: dict[str, list[str] | None] = {}
    for name, value in _changes(body).items():
        words = value if isinstance(value, list) else [value]
        if value is None:
            changes[name] = None
        elif all(isinstance(word, str) or type(word) is int for word in words):
            changes[name] = [str(word) for word in words] or None
        else:
            raise InvalidInputError(
                f"trace setting {name!r:.80} is {value!r:.80}; expected a string or a list of strings"
            )
    controls.require_changeable(changes)
    controls.traces.update(changes, model)


def change_log(controls: Controls, body: bytes) -> None:
    """`POST /v2/logging`."""
    changes = _changes(body)
    controls.require_changeable(changes)
    controls.logs.update(changes)


def _changes(body: bytes) -> Mapping[str, Any]:
    return parse_object(body) if body.strip() else {}
