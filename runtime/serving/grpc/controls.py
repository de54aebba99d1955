"""Triton's extensions on gRPC that concern the server rather than a model: shared memory, log and trace settings."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message

from protos import inference
from runtime.errors import InvalidInputError
from runtime.serving.controls import Controls
from runtime.serving.grpc.calls import Answer
from runtime.serving.names import check_name


class ControlRpcs:
    """Those RPCs of inference.GRPCInferenceService over one server's controls."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def answers(self) -> Mapping[str, Answer]:
        """RPC → what makes its reply."""
        return {
            "SystemSharedMemoryStatus": self.system_status,
            "SystemSharedMemoryRegister": self.system_register,
            "SystemSharedMemoryUnregister": self.system_unregister,
            "CudaSharedMemoryStatus": self.cuda_status,
            "CudaSharedMemoryRegister": self.cuda_register,
            "CudaSharedMemoryUnregister": self.cuda_unregister,
            "TraceSetting": self.trace_setting,
            "LogSettings": self.log_settings,
        }

    async def system_status(self, message: inference.SystemSharedMemoryStatusRequest) -> Message:
        """The regions registered."""
        reply = inference.SystemSharedMemoryStatusResponse()
        for region in self._controls.memory.system_status(message.name):
            told = reply.regions[region.name]
            told.name, told.key = region.name, region.key
            told.offset, told.byte_size = region.offset, region.size_bytes
        return reply

    async def system_register(self, message: inference.SystemSharedMemoryRegisterRequest) -> Message:
        """A region for requests to point to."""
        self._controls.memory.register_system(message.name, message.key, message.offset, message.byte_size)
        return inference.SystemSharedMemoryRegisterResponse()

    async def system_unregister(self, message: inference.SystemSharedMemoryUnregisterRequest) -> Message:
        """Forgets a region, or all of them."""
        self._controls.memory.unregister_system(message.name)
        return inference.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(self, message: inference.CudaSharedMemoryStatusRequest) -> Message:
        """The regions registered on devices."""
        reply = inference.CudaSharedMemoryStatusResponse()
        for region in self._controls.memory.cuda_status(message.name):
            told = reply.regions[region.name]
            told.name, told.device_id, told.byte_size = region.name, region.device, region.size_bytes
        return reply

    async def cuda_register(self, message: inference.CudaSharedMemoryRegisterRequest) -> Message:
        """A region on a device for requests to point to."""
        await self._controls.memory.register_cuda(
            message.name, message.raw_handle, message.device_id, message.byte_size
        )
        return inference.CudaSharedMemoryRegisterResponse()

    async def cuda_unregister(self, message: inference.CudaSharedMemoryUnregisterRequest) -> Message:
        """Forgets a region, or all of them; without CUDA too, as Triton's example clients ask that before they begin."""
        await self._controls.memory.unregister_cuda(message.name)
        return inference.CudaSharedMemoryUnregisterResponse()

    async def trace_setting(self, message: inference.TraceSettingRequest) -> Message:
        """Changes trace settings, and says what holds then."""
        if message.model_name:
            check_name(message.model_name)
        self._controls.require_changeable(message.settings)
        traces = self._controls.traces
        traces.update({name: list(given.value) or None for name, given in message.settings.items()}, message.model_name)
        reply = inference.TraceSettingResponse()
        for name, value in traces.values(message.model_name).items():
            reply.settings[name].value.extend([value] if isinstance(value, str) else value)
        return reply

    async def log_settings(self, message: inference.LogSettingsRequest) -> Message:
        """Changes log settings, and says what holds then."""
        changes: dict[str, object] = {}
        for name, given in message.settings.items():
            kind = given.WhichOneof("parameter_choice")
            if kind is None:
                raise InvalidInputError(f"log setting {name!r} has no value; set one of bool, uint32, string")
            changes[name] = getattr(given, kind)
        self._controls.require_changeable(changes)
        logs = self._controls.logs
        logs.update(changes)
        reply = inference.LogSettingsResponse()
        for name, value in logs.values().items():
            told = reply.settings[name]
            match value:
                case bool():
                    told.bool_param = value
                case int():
                    told.uint32_param = value
                case str():
                    told.string_param = value
        return reply
