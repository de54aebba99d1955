"""Every error has a status on both protocols, says no more than it may, and comes back as itself where it should."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from runtime import errors
from runtime.wire import status
from runtime.wire.status import error_of_grpc, error_of_http, hints_of, status_of, text_of


def every_class(of: type[errors.EdgewardError] = errors.EdgewardError) -> Iterator[type[errors.EdgewardError]]:
    yield of
    for sub in of.__subclasses__():
        if sub.__module__ == errors.__name__:
            yield from every_class(sub)


ALL = list(every_class())


def test_the_table_has_every_class_and_only_real_codes() -> None:
    assert set(status.TABLE) == set(ALL)
    assert {code.name for code in status.GrpcCode} == {code.name for code in grpc.StatusCode} - {"OK"}
    assert {s.grpc for s in status.TABLE.values()} <= set(status.GrpcCode)


@pytest.mark.parametrize("cls", ALL)
def test_retryable_means_unavailable_on_grpc(cls: type[errors.EdgewardError]) -> None:
    assert (status.TABLE[cls].grpc is status.GrpcCode.UNAVAILABLE) == cls.retryable


@pytest.mark.parametrize("cls", [c for c in ALL if issubclass(c, errors.CallerError)])
def test_the_callers_faults_are_4xx_or_unsupported(cls: type[errors.EdgewardError]) -> None:
    assert 400 <= status.TABLE[cls].http < 500 or cls is errors.UnsupportedError


def test_a_subclass_has_the_status_of_its_nearest_class() -> None:
    class MisspeltError(errors.ModelNotFoundError):
        pass

    assert status_of(MisspeltError("x")) == status.Status(status.GrpcCode.NOT_FOUND, 404)
    assert hints_of(MisspeltError("x")) == {"edgeward-error": "ModelNotFoundError"}


def test_a_foreign_exception_is_internal_and_says_nothing() -> None:
    error = KeyError("/secret/path")
    assert status_of(error) == status.Status(status.GrpcCode.INTERNAL, 500)
    assert "secret" not in text_of(error)
    assert hints_of(error) == {}


def test_a_text_is_fit_for_a_header() -> None:
    assert text_of(errors.InvalidInputError("a" * 2000)) == "a" * 2000
    assert text_of(errors.InvalidInputError("a" * 100_000)) == "a" * 1997 + "…"
    # By bytes: percent-encoded as a gRPC status, 2,000 characters of three bytes would be 18 KB.
    assert text_of(errors.InvalidInputError("语" * 2000)) == "语" * 665 + "…"
    assert text_of(errors.InvalidInputError("name '\ud800'")) == "name '?'"
    assert text_of(errors.InvalidInputError()) == "InvalidInputError"


CARRIED = [
    errors.InvalidInputError,
    errors.ModelNotFoundError,
    errors.PayloadTooLargeError,
    errors.UnauthenticatedError,
    errors.UnsupportedError,
    errors.ModelNotReadyError,
    errors.OverloadedError,
    errors.PeerUnreachableError,
    errors.DeadlineExceededError,
    errors.CancelledError,
]


@pytest.mark.parametrize("cls", CARRIED)
def test_comes_back_as_itself(cls: type[errors.EdgewardError]) -> None:
    sent = cls("what happened")
    for back in (
        error_of_grpc(status_of(sent).grpc, text_of(sent), hints_of(sent)),
        error_of_http(status_of(sent).http, text_of(sent), hints_of(sent)),
    ):
        assert type(back) is cls
        assert str(back) == "what happened"


@pytest.mark.parametrize("cls", [errors.ExecutionError, errors.BundleError, errors.NoCandidateError, errors.PeerError])
def test_the_servers_own_failure_is_the_peers_to_a_client(cls: type[errors.EdgewardError]) -> None:
    sent = cls("x")
    hints = hints_of(sent)
    assert type(error_of_grpc(status_of(sent).grpc, "x", hints)) is errors.PeerFailedError
    assert isinstance(error_of_http(status_of(sent).http, "x", hints), errors.PeerError)


def test_overloaded_brings_when_to_come_back() -> None:
    hints = hints_of(errors.OverloadedError("full", retry_after_s=2.2))
    assert hints["retry-after"] == "3"
    back = error_of_grpc("UNAVAILABLE", "full", hints)
    assert isinstance(back, errors.OverloadedError)
    assert back.retry_after_s == 3.0
    for bad in ("soon", "-1", "nan", "inf"):
        back = error_of_http(503, "full", {"retry-after": bad})
        assert isinstance(back, errors.OverloadedError)
        assert back.retry_after_s == 1.0


@pytest.mark.parametrize(
    ("code", "text", "cls"),
    [
        ("UNAVAILABLE", "connection refused", errors.PeerUnreachableError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceededError),
        ("RESOURCE_EXHAUSTED", "Sent message larger than max (9 vs. 4)", errors.PayloadTooLargeError),
        ("RESOURCE_EXHAUSTED", "too many requests", errors.OverloadedError),
        ("PERMISSION_DENIED", "no", errors.UnauthenticatedError),
        ("UNKNOWN", "oops", errors.PeerFailedError),
        ("NO_SUCH_CODE", "oops", errors.PeerFailedError),
    ],
)
def test_a_server_without_our_hints_is_understood(code: str, text: str, cls: type[errors.EdgewardError]) -> None:
    assert type(error_of_grpc(code, text, {})) is cls


@pytest.mark.parametrize(
    ("http", "cls"),
    [
        (400, errors.InvalidInputError),
        (404, errors.ModelNotFoundError),
        (422, errors.InvalidInputError),
        (500, errors.PeerFailedError),
        (503, errors.OverloadedError),
        (504, errors.DeadlineExceededError),
    ],
)
def test_a_plain_http_status_is_understood(http: int, cls: type[errors.EdgewardError]) -> None:
    assert type(error_of_http(http, "x", {})) is cls


def test_a_hint_that_does_not_fit_its_status_is_not_believed() -> None:
    assert type(error_of_grpc("INTERNAL", "x", {"edgeward-error": "ModelNotFoundError"})) is errors.PeerFailedError


@pytest.mark.slow
def test_importing_it_brings_no_grpc() -> None:
    code = "import sys, runtime.wire.status, runtime.client; assert not {'grpc', 'google.protobuf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[3])
