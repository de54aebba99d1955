"""What tests of any part may ask for: the bundle that ships, and the models and data that lie beside the checkout."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from runtime.bundle.bundle import Bundle, read_bundle
from runtime.bundle.locate import shipped_bundles
from tests import programs
from tests.browser import browsing

SHARED = Path(__file__).resolve().parents[2] / "shared"

# How long an example takes says something of the machine, nothing of what is tested.
settings.register_profile("edgeward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgeward")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What is not part of the project and cannot be guessed."""
    parser.addoption(
        "--triton-examples", metavar="FOLDER", help="src/python/examples of triton-inference-server/client, to run them"
    )
    parser.addoption("--kserve-python", metavar="PYTHON", help="an interpreter that has kserve, to run its clients")
    parser.addoption("--perf-analyzer", metavar="FILE", help="Triton's load generator, to run it against our server")


def pytest_configure() -> None:
    """What is captured here is as wide as in a pipe, whoever started the tests and however narrow their terminal is."""
    os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests allow themselves the most time come first: beside them the many short ones fill every core to the end."""

    def most_s(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark is not None else 0.0

    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0.0), most_s(item))
    items.sort(key=lambda item: -longest[item.path])


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; these tests need models and data that are not part of the project")
    return folder


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of models that nobody here trained; skips where it is absent."""
    return _shared("models")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of labelled images beside those models; skips where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def digits() -> Bundle:
    """The bundle that ships with Edgeward."""
    return read_bundle(shipped_bundles()["digits"])


@pytest.fixture
def time_for_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration tries every pair of variant and backend, however slow the machine is just now, and however short the budget.

    For tests of what is chosen. What is left out when time is short has tests of its own, on a clock of theirs.
    """
    monkeypatch.setattr("runtime.selection.trying.LEAST_LOOKS_S", 3600.0)


@pytest.fixture(scope="session")
def calibrated_home() -> Path:
    """A home in which the digits were calibrated, once."""
    return programs.calibrated_home()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real headless Chromium; skips with the reason where there is none."""
    with browsing() as started:
        yield started
