"""What a gateway writes of its requests is what a simulation reads: no payload, no key, no more bytes than told."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from cloud_gateway.guards import Arm, GuardWatch
from cloud_gateway.release.comparison import Comparison
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.request_log import LOST, Asked, RequestLog, line_of
from cloud_gateway.release.simulation import Outcome, read_log, simulate
from cloud_gateway.release.steps import Command
from runtime.bundle.writing import pack
from runtime.client import connect
from runtime.telemetry.exposition import Kind
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, make_bundle, row
from tests.cloud_gateway.release.gateways import PATIENCE_S, Gateway, Stock, gateway, plan
from tests.cloud_gateway.release.test_processes import admin_of, run
from tests.cloud_gateway.release.test_settling import have_compared
from tests.programs import calibrate, started

SHADOW = 'strategy = "shadow"\nhold_s = 0'
ASKED = Asked("small", "user-7", "de", Arm.STABLE, False, 0.004)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_says_of_a_version_that_was_not_asked_that_nobody_knows() -> None:
    line = line_of(1.5, ASKED, None)
    (read,) = read_log([json.dumps(line)])
    assert (read.at_s, read.model, read.segment, read.is_known) == (1.5, "small", "de", False)
    assert read.stable == Outcome(False, 0.004)
    assert "user-7" not in json.dumps(line)
    assert read.key == next(read_log([json.dumps(line_of(9.0, ASKED, None))])).key, "the same user again"


def test_a_line_of_both_versions_says_what_the_mirror_found() -> None:
    compared = Mirrored("r", "de", Comparison(False, 0.25), {}, {}, timed=(0.001, 0.003))
    (read,) = read_log([json.dumps(line_of(0.0, ASKED, compared))])
    assert (read.stable, read.candidate) == (Outcome(False, 0.001), Outcome(False, 0.003)), (
        "both alone, not the caller's"
    )
    assert (read.is_known, read.agrees, read.distance) == (True, False, 0.25)
    failed = Mirrored("r", "de", None, {}, None, "boom")
    (read,) = read_log([json.dumps(line_of(0.0, ASKED, failed))])
    assert (read.stable, read.candidate) == (Outcome(False, 0.004), Outcome(True, 0.004))


def test_the_file_never_holds_more_than_told_and_the_one_before_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "requests.jsonl"
    for _ in range(2):
        log = RequestLog(file, 4096)
        for _ in range(200):
            log.write(ASKED)
        log.close()
        before = file.with_name("requests.jsonl.1")
        assert 0 < file.stat().st_size <= 4096
        assert 4096 - 200 < before.stat().st_size <= 4096
        assert sorted(file.parent.iterdir()) == [file, before]
        assert log.lost == 0
        assert all(one["model"] == "small" for one in [*lines_of(before), *lines_of(file)]), "no line is cut"


async def test_a_file_that_cannot_be_written_is_said_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no folder").write_text("")
    log = RequestLog(tmp_path / "no folder" / "requests.jsonl", 4096)
    for _ in range(5):
        log.write(ASKED)
    log.close()
    assert log.describe() == {"file": str(tmp_path / "no folder" / "requests.jsonl"), "lost": 5}
    (family,) = await log.families()
    assert (family.name, family.kind, family.samples) == (LOST, Kind.COUNTER, [({}, 5)])
    assert caplog.text.count("cannot be written; requests are answered all the same") == 1


async def asked(one: Gateway, failing: int, count: int = 300) -> None:
    """So many requests, `failing` of ten of which the fragile candidate fails."""
    for _ in range(count // 10):
        await asyncio.gather(one.ask(10 - failing), one.ask(failing, index=PICK_FAILS_ON_SMALL_TABLES))
        await one.tick(0.01)
    for _ in range(int(PATIENCE_S / 0.01)):
        await one.tick(0)
        if one.traffic.active["small"].evidence.counts.shadow.seen == count:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the mirror never came to its end")


@pytest.mark.parametrize(
    ("failing", "more", "status"),
    [
        (3, SHADOW, "rolled_back"),
        (0, 'strategy = "blue_green"\ncontrol_share = 100', "settling"),
    ],
    ids=["beside stable", "beside the candidate"],
)
async def test_what_a_release_saw_is_replayed(
    stock: Stock, tmp_path: Path, failing: int, more: str, status: str
) -> None:
    requests = tmp_path / "requests.jsonl"
    async with gateway(stock, tmp_path / "gateway.db") as one:  # whose guards hold, whatever they see
        one.traffic.log = RequestLog(requests, 1 << 20)
        await one.ask(5)
        await one.controller.start(plan(5, more))
        await asked(one, failing)
        one.traffic.log.close()
        assert one.traffic.log.lost == 0
    lines = lines_of(requests)
    assert len(lines) == 305
    assert "user-" not in requests.read_text()
    assert sum(line["candidate"] is None for line in lines) == 5, "before the release"
    with requests.open() as log:
        done = simulate(plan(5, more), read_log(log), GuardWatch)
    assert (done.state.status, done.left_out) == (status, 5)
    if failing:  # how soon it is found depends on when the log's requests came
        assert "error_rate" in done.state.reason


@pytest.mark.parametrize("is_rolled_back", [True, False], ids=["rolled back", "stopped"])
@pytest.mark.parametrize("is_run", [True, False], ids=["run and not taken", "never run"])
async def test_what_the_mirror_had_at_the_end_has_its_lines(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_rolled_back: bool, is_run: bool
) -> None:
    if not is_run:
        monkeypatch.setattr("cloud_gateway.release.mirror.GATHER_S", 10 * PATIENCE_S)
    requests = tmp_path / "requests.jsonl"
    async with gateway(stock, tmp_path / "gateway.db") as one:
        log = one.traffic.log = RequestLog(requests, 1 << 20)
        await one.controller.start(plan(more=SHADOW))
        await one.ask(10)
        if is_run:
            await have_compared(one)
        if is_rolled_back:
            await one.controller.command("small", Command.ROLLBACK)
            await one.controller.turns.wait()
    log.close()
    assert log.lost == 0
    lines = lines_of(requests)
    assert len(lines) == 10
    assert is_run or all(line["candidate"] is None for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_gateway_that_is_told_to_writes_what_the_command_reads(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bundles = {version: make_bundle(tmp_path / str(version), version, is_other=version == 2) for version in (1, 2)}
    for bundle in bundles.values():
        calibrate(bundle.root)
    words = (
        "gateway",
        "run",
        str(bundles[1].root),
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--request-log",
        "log.jsonl",
    )
    text = f'model = "small"\nstable = 1\ncandidate = 2\n{SHADOW}'
    (home / "plan.toml").write_text(text)
    lenient = text + '\n[[guards]]\nmetric = "error_rate"\nmargin = 0.001'
    with started(home, *words) as one, admin_of(home, one) as admin:
        admin.upload("/admin/registry", pack(bundles[2], tmp_path / "packed.tar"))
        admin.post("/admin/releases", {"plan": lenient})
        with connect(one.grpc) as client:
            for number in range(200):
                client.predict("small", row(), parameters={"routing_key": f"user-{number}"})
        assert one.status()["request_log"] == {"file": "log.jsonl", "lost": 0}
        with urlopen(f"{one.http}/metrics", timeout=PATIENCE_S) as reply:
            assert f"{LOST} 0" in reply.read().decode().splitlines()
    told = json.loads(run(home, "release", "simulate", "plan.toml", "log.jsonl", "--json"))
    assert told["status"] == "rolled_back"
    assert "disagreement" in told["reason"]
