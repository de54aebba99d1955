"""One server for a module's tests; the clients that reach it."""

from collections.abc import Iterator

import pytest

from tests.runtime.serving.fronts import FRONTS, why_not
from tests.runtime.serving.real import serving_models
from tests.runtime.serving.threaded import Threaded, serving


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """Each gRPC front in turn, for tests of gRPC."""
    return _or_skipped(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[Threaded]:
    with serving(grpc_front="asyncio") as threaded:
        yield threaded


@pytest.fixture(scope="module")
def native_server() -> Iterator[Threaded]:
    """The same behind the native gRPC front."""
    with serving(grpc_front=_or_skipped("native")) as threaded:
        yield threaded


@pytest.fixture(scope="module")
def grpcio_server() -> Iterator[Threaded]:
    """The same behind grpcio."""
    with serving(grpc_front="grpcio") as threaded:
        yield threaded


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    """A server that runs models: 'simple' in two versions from a repository, where 'broken' and 'spare' lie too."""
    with serving_models(tmp_path_factory.mktemp("real")) as threaded:
        yield threaded


def _or_skipped(front: str) -> str:
    if (reason := why_not(front)) is not None:
        pytest.skip(reason)
    return front
