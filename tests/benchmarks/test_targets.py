"""Targets on servers of ours, as people start them: over TLS, over gRPC, an agent and a gateway side by side."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.samples import Recording, load_folder
from benchmarks.settings import Access, Setting, TargetName, check_targets
from benchmarks.targets import rows_of
from runtime.errors import WrongUseError
from tests.certificates import issue
from tests.programs import Program, started

ANY_PORTS = ("--host", "127.0.0.1", "--grpc-port", "0", "--http-port", "0")
QUICK = ("--scenario", "single", "--requests", "30", "--duration", "20", "--warm-up", "0.05")


def bench(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def run(targets: str, output: Path, *words: str) -> tuple[list[Recording], Any]:
    """What was measured on `targets`, and the command's result."""
    done = bench("run", "--target", targets, *QUICK, "--output", str(output), "--json", *words)
    assert done.exit_code == 0, done.output
    return load_folder(output), json.loads(done.stdout)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `issue`."""
    return issue(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def encrypted(certificates: Path, home: Path) -> Iterator[Program]:
    files = ("--tls-cert", str(certificates / "cert.pem"), "--tls-key", str(certificates / "key.pem"))
    with started(home, "serve", "digits", *ANY_PORTS, *files) as program:
        yield program


@pytest.mark.slow
def test_servers_are_measured_over_tls_on_both_protocols(
    encrypted: Program, certificates: Path, tmp_path: Path
) -> None:
    assert (encrypted.grpc.partition("://")[0], encrypted.http.partition("://")[0]) == ("grpcs", "https")
    targets = f"secret gRPC={encrypted.grpc},secret REST={encrypted.http}"
    recordings, printed = run(targets, tmp_path / "out", "--ca-file", str(certificates / "ca.pem"))
    assert [row["target"] for row in printed["rows"]] == ["secret gRPC", "secret REST"]
    for recording in recordings:
        assert recording.is_ok.all()
        assert len(recording.samples) == 30
        # The server is on this machine, so its processes were found behind the port.
        assert recording.header["peak_memory_bytes"] > 1_000_000
        assert recording.samples.execute_ns is not None


@pytest.mark.slow
def test_a_certificate_that_another_signed_is_not_believed(
    encrypted: Program, certificates: Path, tmp_path: Path
) -> None:
    words = ["run", "--target", encrypted.http, *QUICK, "--output", str(tmp_path)]
    done = bench(*words, "--ca-file", str(certificates / "other.pem"))
    assert done.exit_code == 1
    assert "not measured" in done.stderr
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.slow
def test_an_agent_and_a_gateway_beside_the_engine(tmp_path: Path) -> None:
    with (
        started(tmp_path, "gateway", "run", "digits", *ANY_PORTS, "--admin-port", "0") as gateway,
        started(tmp_path, "agent", "run", "digits", *ANY_PORTS) as agent,
    ):
        targets = f"inproc,agent=grpc://{agent.grpc},gateway=grpc://{gateway.grpc}"
        recordings, _ = run(targets, tmp_path / "out")
        swapped = bench("run", "--target", f"agent=grpc://{gateway.grpc}", *QUICK, "--output", str(tmp_path / "x"))
    servers = [recording.header["target"]["server"].split(" ")[0] for recording in recordings]
    assert servers == ["", "edgeward-agent", "edgeward-gateway"]
    assert all(recording.is_ok.all() for recording in recordings)
    assert [r.header["origins"][0]["served_by"] for r in recordings] == ["edge", "edge", "cloud"]
    assert swapped.exit_code == 1
    told = str(swapped.exception)
    assert "edgeward-gateway answers at" in told
    assert "agent=grpc://127.0.0.1:8011" in told


def test_agent_and_gateway_at_one_address_are_refused_before_anything_is_measured() -> None:
    done = bench("run", "--target", "inproc,agent,gateway")
    assert isinstance(done.exception, WrongUseError)
    assert "agent and gateway both mean grpc://127.0.0.1:8001" in str(done.exception)
    assert "gateway=grpc://127.0.0.1:8011" in str(done.exception)
    check_targets(["inproc", "agent", "gateway=grpc://127.0.0.1:8011"], Access())


def test_a_ca_is_for_targets_with_tls(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="no target is encrypted"):
        check_targets(["inproc", "grpc://h:1"], Access(ca_file=tmp_path))
    check_targets(["grpc://h:1", "https://h:2"], Access(ca_file=tmp_path))


def test_every_scheme_is_a_target() -> None:
    seen = {scheme: TargetName.parse(f"{scheme}://host:1") for scheme in ("grpc", "grpcs", "http", "https")}
    assert [name.is_grpc for name in seen.values()] == [True, True, False, False]
    assert [name.is_secure for name in seen.values()] == [False, True, False, True]


def test_a_key_shows_in_no_repr() -> None:
    access = Access("secret", Path("ca.pem"))
    assert "secret" not in repr(access)
    assert Access.from_dict(json.loads(json.dumps(access.to_dict()))) == access


def test_a_server_that_names_no_inputs_is_asked_with_those_of_the_bundle_that_is_here() -> None:
    rows = rows_of(Setting("digits", "grpc://h:1"), (), seed=1)
    assert not rows.is_random
    (asked, *_) = (inputs for _, inputs in rows.chunks(1))
    assert {name: value.shape for name, value in asked.items()} == {"image": (1, 1, 8, 8)}
    with pytest.raises(WrongUseError, match="says of model 'nowhere' that it has no inputs"):
        rows_of(Setting("nowhere", "grpc://h:1"), (), seed=1)
