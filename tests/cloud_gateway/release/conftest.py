"""Bundles and a registry for all tests of releases, and guards that hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud_gateway.release.fakes import HOLD, FakeWatch
from tests.cloud_gateway.release.gateways import Stock, make_stock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return make_stock(tmp_path_factory.mktemp("stock"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture(autouse=True)
def _guards_hold() -> Iterator[None]:
    FakeWatch.says = HOLD
    yield
    FakeWatch.says = HOLD
