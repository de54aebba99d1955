"""An agent's settings: what is refused, and that keys stay out of sight."""

from pathlib import Path

import pytest

from edge_agent.rules import Policy, Rule
from edge_agent.settings import AgentSettings
from runtime.config import load_settings
from runtime.errors import WrongUseError
from runtime.wire.values import Privacy

KEY = "a-secret-key-0123456789"


def test_file_then_variables_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('models = ["digits"]\ngateway = "cloud:8001"\npolicy = "cloud_first"\nhttp_port = 1\n')
    loaded = load_settings(
        AgentSettings, file, {"http_port": 3, "host": None}, {"EDGEWARD_HTTP_PORT": "2", "EDGEWARD_MODELS": "a, b.onnx"}
    )
    assert loaded.settings.models == ("a", "b.onnx")
    assert loaded.settings.policy is Policy.CLOUD_FIRST
    assert loaded.settings.http_port == 3
    assert loaded.origins["http_port"] == "flag"
    assert loaded.origins["policy"] == f"file {file}"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"gateway": "cloud"}, "the port is missing"),
        ({"models": ["m"], "policy": "cloud_only"}, "cloud_only needs a gateway"),
        ({"models": ["m"], "policy": "edgefirst"}, "edge_first"),
        ({"gateway": "cloud:1", "gateway_api_key": KEY, "gateway_api_key_file": "f"}, "keep one"),
        ({"models": ["m"], "default_deadline_s": 0}, "greater than 0"),
        ({"gateway": ["cloud:1", "cloud"]}, "the port is missing"),
        ({"gateway": ["cloud:1", "cloud:1"]}, "stands twice"),
        ({"models": ["m"], "routes": {"m": {"policy": "cloud_only"}}}, "routes.m: policy cloud_only needs a gateway"),
        ({"models": ["m"], "routes": {"m": {"cascade": True, "policy": "fastest"}}}, "set policy = .edge_first."),
        ({"models": ["m"], "routes": {"m": {"polcy": "fastest"}}}, "polcy"),
        ({"models": ["m"], "routes": "no json"}, "it is no JSON"),
        ({"gateway": "cloud:1", "gateway_ca": "ca.pem"}, "nothing is asked over TLS"),
        ({"gateway_http": "cloud:1", "sync_from": "cloud:1", "gateway_ca": "ca.pem"}, "nothing is asked over TLS"),
    ],
)
def test_what_does_not_fit_is_refused_without_showing_the_key(values: dict[str, object], text: str) -> None:
    with pytest.raises(WrongUseError, match=text) as caught:
        load_settings(AgentSettings, flags=values, environ={})
    assert KEY not in str(caught.value)


def test_routes_by_model_stand_in_the_file_and_fall_back_on_what_holds_for_all(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'gateway = ["one:8001", "two:8001"]\npolicy = "cloud_first"\nprivacy = "any"\n'
        '[routes.digits]\npolicy = "fastest"\nhedge = false\n'
        '[routes.faces]\nprivacy = "local_only"\n'
        '[routes.tags]\npolicy = "edge_first"\ncascade = true\ncascade_risk = 0.02\n'
    )
    settings = load_settings(AgentSettings, file, environ={}).settings
    assert settings.gateway == ("one:8001", "two:8001")
    assert settings.rule_of("digits") == Rule(Policy.FASTEST, Privacy.ANY, hedge=False)
    assert settings.rule_of("faces") == Rule(Policy.CLOUD_FIRST, Privacy.LOCAL_ONLY)
    assert settings.rule_of("another") == Rule(Policy.CLOUD_FIRST)
    assert settings.routes["tags"].cascade_risk == 0.02
    variables = {"EDGEWARD_ROUTES": '{"m": {"policy": "edge_only"}}', "EDGEWARD_GATEWAY": "one:1, two:2"}
    told = load_settings(AgentSettings, environ=variables).settings
    assert told.rule_of("m").policy is Policy.EDGE_ONLY
    assert told.gateway == ("one:1", "two:2")
    flags = load_settings(AgentSettings, flags={"gateway": ["one:1,two:2", "three:3"]}, environ={}).settings
    assert flags.gateway == ("one:1", "two:2", "three:3")


def test_a_key_of_the_wrong_type_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'gateway = "cloud:1"\ngateway_api_key = ["{KEY}"]\n')
    with pytest.raises(WrongUseError, match="gateway_api_key") as caught:
        load_settings(AgentSettings, file, environ={})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["gateway_http", "sync_from"])
def test_a_ca_may_be_there_for_statistics_or_models_alone(name: str) -> None:
    values = {"models": ["m"], "gateway_ca": "ca.pem", name: "https://cloud:8000"}
    assert load_settings(AgentSettings, flags=values, environ={}).settings.gateway_ca == Path("ca.pem")


def test_an_agent_needs_something_that_answers() -> None:
    with pytest.raises(WrongUseError, match="edgeward agent run digits"):
        AgentSettings().require_an_arm()
    AgentSettings(gateway="cloud:1").require_an_arm()
    AgentSettings(models=("digits",)).require_an_arm()


def test_the_key_comes_from_a_variable_or_a_file_and_is_never_printed(tmp_path: Path) -> None:
    loaded = load_settings(AgentSettings, flags={"gateway": "cloud:1"}, environ={"EDGEWARD_GATEWAY_API_KEY": KEY})
    assert loaded.settings.read_api_key() == KEY
    assert KEY not in repr(loaded) + str(loaded.describe())
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert AgentSettings(gateway="cloud:1", gateway_api_key_file=file).read_api_key() == KEY
    assert AgentSettings(gateway="cloud:1").read_api_key() is None
    with pytest.raises(WrongUseError, match="cannot be read"):
        AgentSettings(gateway="cloud:1", gateway_api_key_file=tmp_path / "none").read_api_key()
