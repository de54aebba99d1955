"""Settings: precedence, provenance, near names, and no secrets in what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator, model_validator

from runtime.config import SettingsModel, home, load_settings, unknown_variables
from runtime.errors import WrongUseError


class Demo(SettingsModel):
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    api_key: SecretStr | None = None


def test_flags_beat_the_environment_which_beats_the_file_which_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    file.write_text('host = "0.0.0.0"\ngrpc_port = 1\n')
    loaded = load_settings(
        Demo, file, {"grpc_port": 3, "host": None}, {"EDGEWARD_GRPC_PORT": "2", "EDGEWARD_API_KEY": "sesame"}
    )
    assert loaded.settings == Demo(host="0.0.0.0", grpc_port=3, api_key=SecretStr("sesame"))
    assert loaded.origins == {"host": f"file {file}", "grpc_port": "flag", "api_key": "variable EDGEWARD_API_KEY"}
    assert "sesame" not in str(loaded.describe())
    assert "sesame" not in repr(loaded)


def test_defaults_say_that_they_are_defaults() -> None:
    loaded = load_settings(Demo, environ={})
    assert loaded.describe()[0] == ("host", "127.0.0.1", "default")


def test_an_unknown_key_suggests_the_near_one(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    file.write_text("grpc_prot = 1\n")
    with pytest.raises(WrongUseError, match="unknown key 'grpc_prot' in file .*did you mean 'grpc_port'"):
        load_settings(Demo, file, environ={})


def test_a_wrong_value_names_the_key_the_value_and_where_it_stands() -> None:
    with pytest.raises(WrongUseError, match=r"grpc_port \(variable EDGEWARD_GRPC_PORT\).*'many'"):
        load_settings(Demo, environ={"EDGEWARD_GRPC_PORT": "many"})


class Strict(SettingsModel):
    gateway: tuple[str, ...] = ()
    wait_s: float = Field(default=1.0, gt=0)
    port: int = 0

    @field_validator("gateway")
    @classmethod
    def _has_ports(cls, gateway: tuple[str, ...]) -> tuple[str, ...]:
        for address in gateway:
            if ":" not in address:
                raise ValueError(f"address {address!r}: the port is missing")
        return gateway

    @model_validator(mode="after")
    def _fits_together(self) -> Strict:
        if self.port == 7:
            raise ValueError("port 7 and wait_s do not go together")
        return self


@pytest.mark.parametrize(
    ("flags", "variables", "text"),
    [
        ({"gateway": ["foo"]}, {}, "--gateway: address 'foo': the port is missing"),
        ({"wait_s": 0.0}, {}, "--wait: it should be greater than 0; got 0.0"),
        ({"port": 7}, {}, "port 7 and wait_s do not go together"),
        ({}, {"EDGEWARD_PORT": "x"}, "port (variable EDGEWARD_PORT): it should be a valid integer; got 'x'"),
    ],
)
def test_what_is_wrong_is_said_in_our_own_words(flags: dict[str, Any], variables: dict[str, str], text: str) -> None:
    with pytest.raises(WrongUseError) as told:
        load_settings(Strict, flags=flags, environ=variables)
    assert str(told.value) == text


def test_who_reads_little_of_a_programs_file_knows_all_of_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    file.write_text("wait_s = 0\nport = 3\n")

    class Asked(SettingsModel):
        port: int = 0

    loaded = load_settings(Asked, file, environ={}, known=Strict)
    assert (loaded.settings, set(loaded.origins)) == (Asked(port=3), {"port"})
    file.write_text("prot = 3\n")
    with pytest.raises(WrongUseError, match="unknown key 'prot'.*did you mean 'port'"):
        load_settings(Asked, file, environ={}, known=Strict)


@pytest.mark.parametrize("content", [b"= broken", b"\xff\xfe"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "demo.toml"
    file.write_bytes(content)
    with pytest.raises(WrongUseError, match=r"demo\.toml cannot be read"):
        load_settings(Demo, file, environ={})
    with pytest.raises(WrongUseError, match="does not exist"):
        load_settings(Demo, tmp_path / "none.toml", environ={})


def test_home_is_the_variable_or_the_platforms_folder(tmp_path: Path) -> None:
    assert home({"EDGEWARD_HOME": str(tmp_path)}) == tmp_path
    assert home({}).name == "edgeward"


def test_a_variable_that_no_program_knows_is_said_with_the_near_name() -> None:
    environ = {
        "EDGEWARD_GRPC_PROT": "1",
        "EDGEWARD_HTTP_PORT": "2",
        "EDGEWARD_HOME": "/x",
        "EDGEWARDEN": "3",
        "PATH": "",
    }
    (sentence,) = unknown_variables({"grpc_port", "http_port"}, environ)
    assert sentence.startswith("variable EDGEWARD_GRPC_PROT is no setting of any program here")
    assert sentence.endswith("did you mean 'EDGEWARD_GRPC_PORT'?")
    assert unknown_variables({"grpc_prot", "http_port"}, environ) == []
    assert "known: EDGEWARD_HOME, EDGEWARD_HTTP_PORT" in unknown_variables({"http_port"}, {"EDGEWARD_ZZZ": ""})[0]
