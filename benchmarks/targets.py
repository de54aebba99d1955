"""Settings become targets: the engine in this process, or a server."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bundles import bundle_here
from benchmarks.remote import Client, RemoteTarget
from benchmarks.settings import ANYONE, Access, BackendName, Setting, TargetName
from benchmarks.target import Target
from runtime.client import connect
from runtime.client.rest import RestClient
from runtime.errors import WrongUseError
from runtime.selection.rows import Rows, random_rows, rows_for
from runtime.tensors import TensorSpec


def make_target(setting: Setting, timeout_s: float, access: Access = ANYONE) -> Target:
    """The target of a setting, not yet opened; `WrongUseError` where the setting does not hold together."""
    name = TargetName.parse(setting.target)
    wanted = BackendName.parse(setting.backend)
    if name.is_inproc:
        from benchmarks.inproc import inproc_target  # asking a server starts sooner without the engine

        return inproc_target(setting.model, wanted)
    if wanted != BackendName():
        raise WrongUseError(
            f"target {name.label!r} is a server, which chooses its backend itself; leave out --backend {setting.backend}"
        )
    make = connect if name.is_grpc else RestClient
    ca_file = access.ca_file if name.is_secure else None
    client: Client = make(name.address, api_key=access.api_key, timeout_s=timeout_s, ca_file=ca_file)
    bundle = bundle_here(setting.model)
    return RemoteTarget(client, name, setting.model if bundle is None else bundle.name, timeout_s)


def rows_of(setting: Setting, inputs: Sequence[TensorSpec], seed: int) -> Rows:
    """What to ask with: the samples of the bundle where it is here, else seeded random rows of the right shape.

    `inputs` are those that the target names; where it names none, the bundle's. `WrongUseError` when nobody does.
    """
    bundle = bundle_here(setting.model)
    if not inputs and bundle is not None and bundle.manifest is not None:
        inputs = tuple(tensor.spec for tensor in bundle.manifest.inputs)
    if not inputs:
        raise WrongUseError(
            f"{TargetName.parse(setting.target).label} says of model {setting.model!r} that it has no inputs, so what to ask is "
            "not known: give --model a bundle that says it, or have the server tell its metadata"
        )
    return random_rows(inputs, {}, seed) if bundle is None else rows_for(bundle, inputs, seed)
