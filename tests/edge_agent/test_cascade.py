"""The cascade in the agent: fitted on what a model answers here, asked beside other outputs, and told in the reply."""

import math
from pathlib import Path

import numpy as np
import pytest

import edgeward
from edge_agent.cascade import Cascade, fit
from edge_agent.rules import Policy
from edge_agent.service import AgentService
from runtime.errors import PeerUnreachableError, WrongUseError
from runtime.wire.values import InferenceRequest, InferenceResponse, RequestedOutput
from tests.edge_agent.test_service import FakeGateway, FakeLocal, request, who

CASCADE = Cascade("scores", 1.0, 0.9, "fitted")


class Scoring(FakeLocal):
    """A local model whose scores are told; it answers with the outputs that were asked for."""

    scores = (0.95, 0.05)

    async def infer(self, asked: InferenceRequest) -> InferenceResponse:
        await self._behave(asked)
        have = {"scores": np.array([self.scores]), "other": np.array([[7.0]])}
        names = [output.name for output in asked.outputs] or list(have)
        return InferenceResponse(asked.model, "1", {name: have[name] for name in names}, asked.id, {})


def service(local: FakeLocal, gateway: FakeGateway, cascade: Cascade = CASCADE) -> AgentService:
    return AgentService(local, gateway, cascades=lambda name, _: cascade if name == "m" else None)


async def test_a_sure_answer_is_local_and_says_how_sure() -> None:
    response = await service(Scoring(), FakeGateway()).infer(request())
    assert response.parameters["served_by"] == "edge"
    assert response.parameters["reason"] == "confidence 0.9500 clears 0.9000"


async def test_an_unsure_answer_asks_the_cloud_and_stands_in_when_that_fails() -> None:
    unsure = Scoring()
    unsure.scores = (0.6, 0.4)
    assert who(await service(unsure, FakeGateway()).infer(request()))[:2] == (2.0, "cloud")
    failing = service(unsure, FakeGateway(PeerUnreachableError("refused")))
    response = await failing.infer(request())
    assert response.parameters["served_by"] == "edge"
    assert "is under 0.9000; cloud failed: refused; the local answer stands in" in str(response.parameters["reason"])
    assert failing.counts.fallbacks == {"unsure_alone": 1}


async def test_scores_that_were_not_asked_for_are_not_in_the_reply() -> None:
    local = Scoring()
    asked = InferenceRequest("m", request().inputs, outputs=(RequestedOutput("other"),))
    response = await service(local, FakeGateway()).infer(asked)
    assert [output.name for output in local.asked[0].outputs] == ["other", "scores"]
    assert list(response.outputs) == ["other"]
    assert "clears" in str(response.parameters["reason"])


async def test_classified_outputs_tell_no_confidence_so_there_is_no_cascade() -> None:
    local = Scoring()
    asked = InferenceRequest("m", request().inputs, outputs=(RequestedOutput("scores", {"classification": 1}),))
    response = await service(local, FakeGateway()).infer(asked)
    assert "reason" not in response.parameters


async def test_a_request_with_a_policy_of_its_own_has_no_cascade() -> None:
    unsure = Scoring()
    unsure.scores = (0.6, 0.4)
    subject = AgentService(unsure, FakeGateway(), Policy.EDGE_FIRST, cascades=lambda *_: CASCADE)
    response = await subject.infer(request(policy="edge_only"))
    assert response.parameters["served_by"] == "edge"
    assert "reason" not in response.parameters


def test_the_least_sure_row_counts() -> None:
    rows = np.array([[0.99, 0.01], [0.55, 0.45]])
    assert CASCADE.confidence({"scores": rows}) == pytest.approx(0.55)
    assert CASCADE.confidence({"other": rows}) is None


@pytest.mark.slow
def test_a_loaded_model_is_fitted_on_its_samples(tmp_path: Path) -> None:
    with edgeward.load("digits", edgeward.EngineSettings(home=tmp_path)) as model:
        found = fit(model, 0.02)
        assert found.output == "probabilities"
        assert 0.0 <= found.threshold < 1.0
        assert fit(model, 1e-5).threshold == math.inf, "360 rows cannot show that"
        file = model.bundle.path_of(model.bundle.variants[0])
    bare = edgeward.load(str(file), edgeward.EngineSettings(home=tmp_path))
    with bare, pytest.raises(WrongUseError, match="has no cascade"):
        fit(bare, 0.02)
