"""`edgeward probe`."""

import json

import pytest

from runtime.hardware import describe, probe, read_heat


def test_the_table_has_every_fact(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe") == 0
    shown = capsys.readouterr().out
    for name, _ in describe(probe(), read_heat()):
        assert name in shown


def test_json_is_the_hardware(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arch"] == probe().arch
    assert told["fingerprint"] == probe().fingerprint()
    assert set(told["heat"]) == {"temperature_c", "zone", "slowed_by", "since_boot", "gpus", "missing"}
