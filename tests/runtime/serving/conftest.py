"""One server for a module's tests; the clients that reach it."""

from collections.abc import Iterator

import pytest

from runtime.serving.grpc.front import why_not_native
from tests.runtime.serving.real import serving_models
from tests.runtime.serving.threaded import Threaded, serving


@pytest.fixture(scope="module", params=["asyncio", "native", "grpcio"])
def front(request: pytest.FixtureRequest) -> str:
    """Each gRPC front in turn, for tests of gRPC."""
    if request.param == "native" and (why_not := why_not_native(has_tls=False)) is not None:
        pytest.skip(why_not)
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[Threaded]:
    with serving(grpc_front="grpcio") as threaded:
        yield threaded


@pytest.fixture(scope="module")
def native_server() -> Iterator[Threaded]:
    """The same behind the native gRPC front."""
    if (why_not := why_not_native(has_tls=False)) is not None:
        pytest.skip(why_not)
    with serving(grpc_front="native") as threaded:
        yield threaded


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    """A server that runs models: 'simple' in two versions from a repository, where 'broken' and 'spare' lie too."""
    with serving_models(tmp_path_factory.mktemp("real")) as threaded:
        yield threaded
