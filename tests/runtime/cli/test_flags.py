"""Flags become settings by their names; one that is no setting is a mistake that no run survives."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from cloud_gateway import cli as gateway_cli
from cloud_gateway.settings import GatewaySettings
from edge_agent import cli as agent_cli
from edge_agent.settings import AgentSettings
from runtime.cli.flags import flags_of
from runtime.cli.serve import serve
from runtime.config import SettingsModel
from runtime.serving.settings import ModelServerSettings


class Demo(SettingsModel):
    host: str = "127.0.0.1"
    models: tuple[str, ...] = ()


def test_what_is_beside_settings_is_left_out_and_an_empty_list_says_nothing() -> None:
    given = {"host": "::1", "models": [], "as_json": True}
    assert flags_of(Demo, given, frozenset({"as_json"})) == {"host": "::1", "models": None}


def test_a_flag_without_a_setting_is_a_mistake_also_where_nobody_gave_it() -> None:
    with pytest.raises(TypeError, match="no setting of Demo is called hots"):
        flags_of(Demo, {"hots": None}, frozenset())


@pytest.mark.parametrize(
    ("command", "kind", "beside"),
    [
        (agent_cli.run, AgentSettings, {"config", "as_json"}),
        (gateway_cli.run, GatewaySettings, {"config", "as_json"}),
        (serve, ModelServerSettings, {"workers", "as_json", "is_without_shared_memory"}),
    ],
)
def test_every_flag_of_a_program_is_a_setting_of_it(
    command: Callable[..., None], kind: type[SettingsModel], beside: set[str]
) -> None:
    assert set(inspect.signature(command).parameters) - beside <= set(kind.model_fields)
