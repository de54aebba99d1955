"""What programs say of their settings: those that somebody chose, or all of them."""

from collections.abc import Iterator

import pytest

from runtime.cli.console import set_debugging
from runtime.cli.program import show_settings
from runtime.config import SettingsModel, load_settings


class Settings(SettingsModel):
    port: int = 8000
    host: str = "127.0.0.1"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    set_debugging(False)


def test_what_nobody_chose_is_counted_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show_settings(load_settings(Settings, None, {"port": 9}))
    told = capsys.readouterr().err
    assert "port" in told
    assert "flag" in told
    assert "host" not in told
    assert "1 settings at their defaults" in told


def test_all_of_them_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    set_debugging(True)
    show_settings(load_settings(Settings, None, {"port": 9}))
    told = capsys.readouterr().err
    assert "host" in told
    assert "defaults;" not in told


class WithModels(SettingsModel):
    models: tuple[str, ...] = ()


def test_several_stand_with_commas_between(capsys: pytest.CaptureFixture[str]) -> None:
    show_settings(load_settings(WithModels, None, {"models": ["digits", "./mine"]}))
    assert "digits, ./mine" in capsys.readouterr().err
