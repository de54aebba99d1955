"""What a run says of targets that nobody listens on."""

import pytest

from benchmarks.run import with_start
from benchmarks.settings import Setting
from runtime.errors import EdgewardError, ModelNotFoundError, PeerUnreachableError

REFUSED = PeerUnreachableError("127.0.0.1:8001 is unreachable: Connection refused; check the address")


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        (
            "agent",
            REFUSED,
            "127.0.0.1:8001 is unreachable: Connection refused; start it with `edgeward agent run digits`",
        ),
        ("gateway", REFUSED, "start it with `edgeward gateway run digits`"),
        ("grpc://127.0.0.1:8001", REFUSED, "Connection refused; check the address"),
        ("agent", ModelNotFoundError("model 'digits' is not served here"), "model 'digits' is not served here"),
    ],
)
def test_who_is_meant_by_name_and_does_not_run_is_told_of_with_the_command_that_starts_it(
    target: str, error: EdgewardError, says: str
) -> None:
    assert says in str(with_start(Setting("digits", target), error))
