"""What programs that serve can be told: by a TOML file, `EDGEWARD_*` variables or flags. Loads no server and no engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from runtime.config import SettingsModel
from runtime.engine.instances import Instances
from runtime.engine.versions import VersionPolicy
from runtime.engine.watch_settings import RECALIBRATE_EVERY_S, SHADOW_EVERY
from runtime.errors import WrongUseError
from runtime.selection.settings import Objective
from runtime.serving.grpc.front import GrpcFront
from runtime.serving.limits import DEFAULT_MAX_MESSAGE_BYTES, MAX_QUEUED_BYTES, MAX_QUEUED_ROWS, QueueLimits
from runtime.serving.log_format import LogFormat
from runtime.serving.observing.settings import ROWS_PER_S


def _split(value: object) -> object:
    """An environment variable is one text: "digits,model.onnx"."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _policy(value: object) -> object:
    """As on the command line, "latest:2"."""
    try:
        return VersionPolicy.parse(value) if isinstance(value, str) else value
    except WrongUseError as error:
        raise ValueError(str(error)) from error


def _instances(value: object) -> object:
    """As on the command line, "2" or "2,digits=4"; a number, or in a file a table of numbers by model."""
    try:
        if isinstance(value, dict):
            value = ",".join(f"{name}={count}" for name, count in value.items())
        return Instances.parse(str(value)) if isinstance(value, str | int) else value
    except WrongUseError as error:
        raise ValueError(str(error)) from error


class AddressSettings(SettingsModel):
    """Where a server answers REST: all that a command which asks it has to know."""

    host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65535)
    tls_cert: Path | None = None
    """A PEM file with the certificate (and its chain) that both ports show; None: they speak in the clear."""


class ServerSettings(AddressSettings):
    """Where a server listens, and what it takes."""

    grpc_port: int = Field(default=8001, ge=0, le=65535)
    """0: any free port; `on_started` says which."""
    uds: Path | None = None
    """A Unix socket for gRPC, beside the port; only this user may connect."""
    http_uds: Path | None = None
    """The same for REST."""
    grpc_front: GrpcFront = GrpcFront.AUTO
    """auto, asyncio, native (the extra `fast`) or grpcio; see `choose_front`."""
    grpc_reflection: bool = False
    """Whether tools such as grpcurl may ask over gRPC what the server speaks."""
    max_message_bytes: int = Field(default=DEFAULT_MAX_MESSAGE_BYTES, gt=0, lt=1 << 31)
    """Of one request, on the wire and unpacked."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """How long requests under way may take after SIGTERM."""
    tls_key: Path | None = None
    """The private key of `tls_cert`, PEM without a passphrase."""
    shared_memory: bool = True
    """Whether clients of this machine may pass tensors in shared memory; never where others reach the server too."""

    log_format: LogFormat = LogFormat.TEXT
    """json: a line is an object, and names the request it was written for."""
    otlp_endpoint: str | None = None
    """Where OpenTelemetry traces go, such as http://127.0.0.1:4318 (OTLP over HTTP; the extra `otel`); None: there are none."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of requests that begin a trace here; one that comes within a trace follows that trace's decision."""

    @model_validator(mode="after")
    def _has_both_of_tls(self) -> ServerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_key", "tls_cert") if self.tls_cert is None else ("tls_cert", "tls_key")
            raise ValueError(f"{given} is set without {missing}; TLS needs the certificate and its key")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> ServerSettings:
        if self.uds is not None and self.uds == self.http_uds:
            raise ValueError(f"uds and http_uds are both {self.uds}; give each a path of its own")
        if self.grpc_port and self.grpc_port == self.http_port:
            raise ValueError(f"grpc_port and http_port are both {self.grpc_port}; give each a port of its own, or 0")
        return self


class ModelServerSettings(ServerSettings):
    """A server of models, and what their backends are chosen for."""

    server_name: str | None = Field(default=None, min_length=1, max_length=64)
    """What ServerMetadata calls the server, for clients that look ("triton"); None: the program's own name."""
    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(default=())
    """Names that ship, folders, tars or model files; as a variable, separated by commas."""
    objective: Objective | None = None
    """In place of what each model's manifest asks for; where neither does, efficiency."""
    threads: int | None = Field(default=None, ge=1)
    """Of one call on the processor, at most; None: as many as are allowed here. Fewer leave cores to calls beside it."""
    instances: Annotated[Instances, BeforeValidator(_instances), PlainSerializer(str)] = Instances()
    """How many batches of one model run at the same time: a number for all, or by name ("2,digits=4")."""
    max_queued_rows: int = Field(default=MAX_QUEUED_ROWS, ge=1)
    """Rows that may wait before one model version; what comes beyond is refused at once. No request may have more rows."""
    max_queued_bytes: int = Field(default=MAX_QUEUED_BYTES, ge=1)
    """Bytes of the inputs that may wait before one model version; a request that finds the queue empty may have more."""
    versions: Annotated[VersionPolicy, BeforeValidator(_policy), PlainSerializer(str)] = VersionPolicy()
    """Which versions of a model are served: latest, latest:N, all or specific:N,N."""
    model_repository: Path | None = None
    """A folder whose sub-folders are models; all of them are served, unless some are named in `models`."""
    poll_s: float | None = Field(default=None, gt=0)
    """How often the model repository is looked at for changes; None: models change by explicit load and unload alone."""
    shadow_every: int = Field(default=SHADOW_EVERY, ge=0)
    """One call of so many is also run on the reference variant, beside the others, and compared; 0: none."""
    recalibrate_every_s: float = Field(default=RECALIBRATE_EVERY_S, ge=0)
    """When a model takes longer than it was measured to, measure again, at most this often; 0: never."""
    allow_model_upload: bool = False
    """Whether a load may bring the model's file; whoever reaches the server can then have it run any model."""
    monitor: bool = True
    """Whether statistics of inputs and outputs are kept, and drift is looked for."""
    monitor_sample: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that is counted, before `monitor_rows_per_s` caps it."""
    monitor_rows_per_s: float = Field(default=ROWS_PER_S, gt=0)
    """Rows counted a second, at most; above, a random share of the requests is, and the first of a burst that alone has more."""

    @model_validator(mode="after")
    def _polls_something(self) -> ModelServerSettings:
        if self.poll_s is not None and self.model_repository is None:
            raise ValueError("poll_s is set without model_repository; there is nothing to look at")
        return self

    @property
    def queue_limits(self) -> QueueLimits:
        """What may wait before one model version."""
        return QueueLimits(self.max_queued_rows, self.max_queued_bytes)

    @property
    def has_models(self) -> bool:
        """Whether any model is named, be it by its folder."""
        return bool(self.models) or self.model_repository is not None
