"""What a load of the repository extension may override: batching, instances, the version policy, and the model's files.

`config` is Triton's ModelConfig as JSON. Batching, the count of instances and versions may be changed; all else in it describes
the model, and is accepted where it says what is so anyhow, so that a client can send back the config it got with one value changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.engine.instances import MAX_INSTANCES
from runtime.engine.versions import VersionPolicy
from runtime.errors import InvalidInputError, UnsupportedError
from runtime.wire.rest_body import parse_object
from runtime.wire.rest_descriptions import FILE_PREFIX

MAX_CONFIG_CHARACTERS = 1 << 16
# Beyond this no client waits; the deadline of a request cuts it short anyhow.
MAX_QUEUE_DELAY_US = 10_000_000
MAX_PREFERRED_SIZES = 32


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a model's requests are joined, where it is not left to measurement."""

    max_batch_size: int | None = None
    """Rows of one request, and of a batch; 0: requests are not joined. None: as measured."""
    max_queue_delay_us: int = 0
    preferred_sizes: tuple[int, ...] = ()
    instances: int | None = None
    """How many batches run at the same time; None: as the server's settings say."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Everything that one load changes."""

    batching: BatchOptions = BatchOptions()
    versions: VersionPolicy | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    """"1/model.onnx" → content; empty: the files of the repository."""


def decode_overrides(
    model: str, parameters: Mapping[str, object], config_now: Mapping[str, Any] | None, max_rows: int
) -> Overrides:
    """The parameters of a load, checked. `config_now` is the config in force, None for a model that is not served."""
    files: dict[str, bytes] = {}
    config: Mapping[str, Any] = {}
    for name, value in parameters.items():
        if name.startswith(FILE_PREFIX) and isinstance(value, bytes):
            files[name.removeprefix(FILE_PREFIX)] = value
        elif name == "config" and isinstance(value, str):
            config = _parse_config(value)
        elif name == "config" or name.startswith(FILE_PREFIX):
            raise InvalidInputError(
                f"load parameter {name!r:.80} is a {type(value).__name__}; expected a string, or bytes for a file"
            )
        else:
            raise UnsupportedError(
                f"load parameter {name!r:.80} is not supported; there are 'config' and 'file:VERSION/model.onnx'"
            )
    _check_descriptions(model, config, config_now)
    batching = replace(_batching(config, max_rows), instances=_instances(config.get("instance_group"), config_now))
    return Overrides(batching, _versions(config.get("version_policy")), files)


def check_unload(parameters: Mapping[str, object]) -> None:
    """`unload_dependents` is fine (no model here depends on another); nothing else is."""
    for name, value in parameters.items():
        if name != "unload_dependents":
            raise UnsupportedError(f"unload parameter {name!r:.80} is not supported; there is 'unload_dependents'")
        if not isinstance(value, bool):
            raise InvalidInputError(f"unload parameter {name!r} is {value!r:.80}; expected true or false")


def _parse_config(text: str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise InvalidInputError(f"'config' has {len(text)} characters; at most {MAX_CONFIG_CHARACTERS} are read")
    try:
        return parse_object(text.encode("utf-8", "surrogatepass"))
    except InvalidInputError as error:
        raise InvalidInputError(f"load parameter 'config': {error}") from None


def _check_descriptions(model: str, config: Mapping[str, Any], now: Mapping[str, Any] | None) -> None:
    for name, value in config.items():
        if name in ("max_batch_size", "dynamic_batching", "instance_group", "version_policy"):
            continue
        if name == "name":
            if value != model:
                raise InvalidInputError(f"config names the model {value!r:.80}; it is loaded as {model!r}")
        elif now is None:
            raise UnsupportedError(
                f"config key {name!r:.80} describes the model, and {model!r} is not served, so nothing can be compared with it; "
                "leave it out"
            )
        elif name == "parameters" and _repeats_report(value, now.get(name, {})):
            continue
        elif name not in now or not _agrees(value, now[name]):
            raise UnsupportedError(
                f"config key {name!r:.80} is {value!r:.80}, which cannot be changed here; change max_batch_size, "
                "dynamic_batching, instance_group or version_policy"
            )


def _repeats_report(given: Any, now: Mapping[str, Any]) -> bool:
    """Whether `given` says of our parameters what is so; what they count may have gone on meanwhile."""
    return isinstance(given, dict) and all(
        name in now and (_agrees(value, now[name]) or now[name]["string_value"].isdigit())
        for name, value in given.items()
    )


def _agrees(given: Any, now: Any) -> bool:
    """Whether `given` says nothing but what is so; numbers may be strings, as protobuf writes 64-bit ones in JSON."""
    if isinstance(given, dict):
        return isinstance(now, dict) and all(key in now and _agrees(value, now[key]) for key, value in given.items())
    if isinstance(given, list):
        return isinstance(now, list) and len(given) == len(now) and all(map(_agrees, given, now))
    return type(given) in (str, int, bool) and str(given) == str(now)


def _batching(config: Mapping[str, Any], max_rows: int) -> BatchOptions:
    size = config.get("max_batch_size")
    largest = None if size is None else _number("max_batch_size", size, 0, max_rows)
    dynamic = config.get("dynamic_batching", {})
    if not isinstance(dynamic, dict):
        raise InvalidInputError(f"config key 'dynamic_batching' is {dynamic!r:.80}; expected an object")
    delay_us = 0
    preferred: list[int] = []
    for name, value in dynamic.items():
        if name == "max_queue_delay_microseconds":
            delay_us = _number(name, value, 0, MAX_QUEUE_DELAY_US)
        elif name == "preferred_batch_size":
            preferred = [
                _number(name, item, 1, largest or max_rows) for item in _list(name, value, MAX_PREFERRED_SIZES)
            ]
        elif value not in (False, 0, "0", [], {}):
            raise UnsupportedError(
                f"config key 'dynamic_batching.{name!s:.40}' is not supported; there are max_queue_delay_microseconds and "
                "preferred_batch_size"
            )
    return BatchOptions(largest, delay_us, tuple(sorted(set(preferred))))


def _instances(groups: object, now: Mapping[str, Any] | None) -> int | None:
    """The count of the one group there is; where it runs was measured, and may only be repeated."""
    if groups is None:
        return None
    if not isinstance(groups, list) or len(groups) > 1 or not all(isinstance(group, dict) for group in groups):
        raise UnsupportedError(
            f"config key 'instance_group' is {groups!r:.80}; expected one group, such as [{{\"count\": 2}}]: "
            "all instances run where the model measured fastest"
        )
    for group in groups:
        so: Mapping[str, Any] = {} if now is None else now["instance_group"][0]
        for name, value in group.items():
            if name == "count" or (name == "kind" and value == "KIND_AUTO"):
                continue
            is_so = _agrees(value, so[name]) if name in so else value in (False, 0, "", [], {})
            if not is_so:
                raise UnsupportedError(
                    f"config key 'instance_group.{name!s:.40}' is {value!r:.80}, which cannot be changed here; change count"
                )
        if "count" in group:
            return _number("instance_group.count", group["count"], 1, MAX_INSTANCES)
    return None


def _versions(policy: object) -> VersionPolicy | None:
    if policy is None:
        return None
    kind, inner = next(iter(policy.items())) if isinstance(policy, dict) and len(policy) == 1 else ("", None)
    match kind, inner:
        case "latest", {"num_versions": count, **rest} if not rest:
            return VersionPolicy(latest=_number("version_policy.latest.num_versions", count, 1, 10**6))
        case "all", {**rest} if not rest:
            return VersionPolicy(latest=None)
        case "specific", {"versions": [_, *_] as numbers, **rest} if not rest:
            chosen = {_number("version_policy.specific.versions", item, 1, 2**63 - 1) for item in numbers}
            return VersionPolicy(latest=None, specific=tuple(sorted(chosen)))
    raise InvalidInputError(
        f"config key 'version_policy' is {policy!r:.120}; expected latest with num_versions, all, or specific with versions"
    )


def _number(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise InvalidInputError(f"config key {name!r} is {value!r:.80}; expected a number from {least} to {most}")
    return value


def _list(name: str, value: object, most: int) -> Sequence[object]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidInputError(f"config key {name!r} is {value!r:.80}; expected a list of at most {most} numbers")
    return value
