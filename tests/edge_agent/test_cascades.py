"""A cascade follows what answers: refitted when that changes, none meanwhile; and the cloud's model may have another name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edge_agent.cascades
from edge_agent.cascade import Cascade, fit
from edge_agent.cascades import Cascades
from edge_agent.renamed import RenamedUpstream
from edge_agent.service import AgentService
from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.errors import WrongUseError
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.wire.values import InferenceRequest
from tests.edge_agent.sorting import STRONG, WEAK, rows, sorting_bundle
from tests.edge_agent.test_service import FakeGateway, request
from tests.edge_agent.test_upstream import until
from tests.programs import calibrate, started

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(EngineSettings(QUICK, home=tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Fits on the thread wait for it."""
    gate = threading.Event()

    def patient(model: Model, risk: float) -> Cascade:
        if threading.current_thread() is not threading.main_thread():
            assert gate.wait(20)
        return fit(model, risk)

    monkeypatch.setattr(edge_agent.cascades, "fit", patient)
    return gate


async def fitted(cascades: Cascades, name: str) -> Cascade:
    await until(lambda: isinstance(cascades.of(name), Cascade))
    found = cascades.of(name)
    assert isinstance(found, Cascade)
    return found


async def test_another_bundle_has_no_cascade_until_it_is_fitted(
    tmp_path: Path, engine: Engine, held: threading.Event
) -> None:
    engine.load(sorting_bundle(tmp_path / "one", "sort", WEAK).root)
    cascades = Cascades(engine, {"sort": 0.05})
    cascades.fit_now()
    first = cascades.of("sort")
    assert isinstance(first, Cascade)
    local = LocalService(engine)
    service = AgentService(local, FakeGateway(), cascades=cascades.of)
    x, _ = rows(77, 1)
    asked = InferenceRequest("sort", {"x": x})
    assert "confidence" in str((await service.infer(asked)).parameters["reason"])

    engine.load(sorting_bundle(tmp_path / "two", "sort", WEAK, 2, noise=1.5).root)
    assert "no cascade yet" in str(cascades.of("sort"))
    response = await service.infer(asked)
    assert (response.version, response.parameters["served_by"]) == ("2", "edge")
    assert "no cascade yet: its threshold for fp32 on onnxruntime-cpu" in str(response.parameters["reason"])
    held.set()
    second = await fitted(cascades, "sort")
    assert second.threshold > first.threshold, "its samples are wrong far oftener"
    assert second.temperature > first.temperature
    cascades.close()
    await local.drain()
    local.close()


async def test_another_variant_is_fitted_anew(tmp_path: Path, digits: Bundle, held: threading.Event) -> None:
    made = Engine(EngineSettings(SelectionSettings(budget_s=1.0, isolate=False), home=tmp_path / "home"))
    model = made.load(digits.root)
    cascades = Cascades(made, {"digits": 0.02})
    cascades.fit_now()
    before = cascades.of("digits")
    assert isinstance(before, Cascade)
    assert model.quarantine(model.candidate, "the test says so")
    assert "no cascade yet" in str(cascades.of("digits"))
    held.set()
    after = await fitted(cascades, "digits")
    assert (before.serving, after.serving) != (after.serving, before.serving)
    assert after.serving == model.serving
    cascades.close()
    made.close()


async def test_a_model_that_comes_later_is_fitted_then_and_one_without_labels_says_so(
    tmp_path: Path, engine: Engine, digits: Bundle
) -> None:
    cascades = Cascades(engine, {"sort": 0.05, "bare": 0.05})
    cascades.fit_now()
    assert cascades.of("sort") is None
    assert cascades.of("other") is None
    engine.load(sorting_bundle(tmp_path / "one", "sort", WEAK).root)
    await fitted(cascades, "sort")
    (tmp_path / "bare.onnx").write_bytes(digits.path_of(digits.variants[0]).read_bytes())
    engine.load(tmp_path / "bare.onnx")
    await until(lambda: "yet" not in str(cascades.of("bare")))
    assert str(cascades.of("bare")).startswith("no cascade: model 'bare' has no cascade")
    with pytest.raises(WrongUseError, match="has no cascade"):
        Cascades(engine, {"bare": 0.05}).fit_now()
    cascades.close()


async def test_the_gateway_is_asked_for_the_other_name() -> None:
    gateway = FakeGateway()
    upstream = RenamedUpstream(gateway, {"m": "large"})
    answer = await upstream.infer(InferenceRequest("m", request().inputs, version="7"))
    assert (gateway.asked[0].model, gateway.asked[0].version) == ("large", "")
    assert (answer.model, answer.parameters["cloud_model"]) == ("m", "large")
    answer = await upstream.infer(InferenceRequest("n", request().inputs, version="7"))
    assert (gateway.asked[1].model, gateway.asked[1].version) == ("n", "7")
    assert "cloud_model" not in answer.parameters


RISKS = (0.02, 0.05, 0.1)


@pytest.mark.slow
def test_a_weak_model_here_and_a_strong_one_there_keep_the_wished_for_risk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(sorting_bundle(tmp_path / "large", "large", STRONG).root)
    routes, models = [], []
    for risk in RISKS:
        name = f"sort-{risk:g}".replace(".", "-")
        models.append(name)
        calibrate(sorting_bundle(tmp_path / name, name, WEAK).root)
        routes.append(f'[routes.{name}]\ncascade = true\ncascade_risk = {risk}\nhedge = false\ncloud_model = "large"\n')
    homes = [tmp_path / "cloud", tmp_path / "edge"]
    for home in homes:
        home.mkdir()
    ports = ("--grpc-port", "0", "--http-port", "0")
    x, labels = rows(1234, 400)
    with started(homes[0], "gateway", "run", str(tmp_path / "large"), *ports) as gateway:
        settings = tmp_path / "agent.toml"
        settings.write_text(
            f'models = {[str(tmp_path / name) for name in models]}\ngateway = "{gateway.grpc}"\n' + "".join(routes)
        )
        found = []
        with (
            started(homes[1], "agent", "run", *ports, "--config", str(settings)) as agent,
            connect(agent.grpc) as client,
        ):
            for name in models:
                answers = [client.infer(InferenceRequest(name, {"x": row[None]})) for row in x]
                is_local = np.array([answer.parameters["served_by"] == "edge" for answer in answers])
                is_right = np.array([int(a.outputs["scores"].argmax()) for a in answers]) == labels
                assert {a.parameters.get("cloud_model") for a in answers} == {None, "large"}
                assert {a.model for a in answers} == {name}
                assert is_right[~is_local].all(), "the strong model is never wrong"
                found.append((is_local.mean(), is_right[is_local].mean(), is_right.mean()))
    weak_alone = float(((x[:, WEAK] > 0) == labels).mean())
    with capsys.disabled():
        print(
            "\nwished-for risk  answered here  right of those  right of all   (the weak model alone: ",
            f"{weak_alone:.1%})",
        )
        for risk, (coverage, local, all_) in zip(RISKS, found, strict=True):
            print(f"{risk:15.0%}  {coverage:13.1%}  {local:14.1%}  {all_:12.1%}")
    for risk, (coverage, local, all_) in zip(RISKS, found, strict=True):
        assert 0.05 < coverage < 0.95
        assert local >= 1 - risk
        assert all_ >= local > weak_alone
    assert found[0][0] < found[1][0] < found[2][0], "who wishes for less risk asks the cloud oftener"
