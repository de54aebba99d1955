"""One server for a module's tests; the clients that reach it."""

from collections.abc import Iterator

import pytest

from tests.runtime.serving.threaded import Threaded, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Threaded]:
    with serving() as threaded:
        yield threaded
