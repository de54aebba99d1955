"""Over every transport, what an API key's holder was answered under an idempotency key is nobody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_gateway.auth import KeyStore
from runtime.bundle.locate import open_bundles
from runtime.client import connect
from runtime.client.rest import RestClient
from runtime.wire.values import InferenceRequest
from tests.programs import started
from tests.runtime.serving.fronts import at_hand


@pytest.mark.slow
@pytest.mark.parametrize("front", at_hand())
def test_two_keys_and_one_idempotency_key(tmp_path: Path, front: str) -> None:
    keys = [KeyStore.under(tmp_path).create(name) for name in ("ann", "bob")]
    (bundle,) = open_bundles("digits", tmp_path / "unpacked")
    assert bundle.manifest is not None
    spec = bundle.manifest.inputs[0].spec
    value = np.zeros([1 if size < 0 else size for size in spec.shape], np.float32)
    asked = InferenceRequest("digits", {spec.name: value}, parameters={"idempotency_key": "order-1"})
    other = replace(asked, inputs={spec.name: value + 1})
    config = tmp_path / "gateway.toml"
    config.write_text(f'grpc_front = "{front}"\n')
    run = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--config", str(config))
    with started(tmp_path, *run) as gateway:

        def is_repeated(key: str, request: InferenceRequest) -> list[object]:
            told = []
            for client in (connect(gateway.grpc, api_key=key), RestClient(gateway.http, api_key=key)):
                with client:
                    told.append(client.infer(request).parameters.get("deduplicated", False))
            return told

        assert is_repeated(keys[0], asked) == [False, True]
        assert is_repeated(keys[1], other) == [False, True], "neither ann's answer nor a conflict with her request"
        assert is_repeated(keys[0], asked) == [True, True]
