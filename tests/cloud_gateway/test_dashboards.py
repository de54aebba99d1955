"""The dashboard and the alerts ask for metrics that there are, and promtool agrees where it is installed."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from cloud_gateway.automation.row_details import RowDetails
from cloud_gateway.labelled import LabelledAnswers
from cloud_gateway.monitoring import Monitoring
from cloud_gateway.telemetry import Fleet
from edge_agent.counts import Counts
from edge_agent.metrics import agent_metrics
from runtime.errors import OverloadedError
from runtime.serving.additions import Additions
from runtime.serving.metrics.endpoint import collect
from runtime.serving.metrics.labels import at_the_edge, in_the_cloud
from runtime.serving.metrics.metric_names import TRITON, renamed
from runtime.serving.metrics.model_metrics import model_metrics
from runtime.telemetry.exposition import Family, Kind, render
from runtime.telemetry.history_recorder import HistoryRecorder
from runtime.telemetry.machine import Machine
from tests.runtime.serving.real import serving_models
from tests.runtime.serving.threaded import Threaded
from tests.runtime.telemetry.test_machine import FakeNvml

FOLDER = Path(__file__).resolve().parents[2] / "cloud_gateway" / "dashboards"
RULE_TESTS = Path(__file__).with_name("alerts_test.yaml")
BESIDE_PYTHON = Path(sys.executable).parent
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(BESIDE_PYTHON))
LINT = 3
"""What `promtool check metrics` ends with where names are not as it would choose them."""
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed; scripts/test fetches it where Debian's packages can be had"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with serving_models(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture(scope="module")
def families(server: Threaded) -> dict[str, Family]:
    """Every metric that a program of ours can have."""

    async def spool() -> dict[str, float]:
        return {"requests": 0, "bytes": 0}

    async def nothing() -> dict[str, object]:
        return {}

    async def read() -> list[Family]:
        machine = Machine(FakeNvml())
        labelled = LabelledAnswers(list, dict)
        monitored = Monitoring(None, Fleet(lambda *_: None, None), labelled, RowDetails(), nothing, dict)
        additions = Additions(
            collectors=(
                model_metrics(server.service, at_the_edge),
                agent_metrics(Counts(), dict, spool),
                machine.families,
                HistoryRecorder().families,
                monitored.families(in_the_cloud),
            )
        )
        additions.load.note_error(OverloadedError("full"))
        try:
            return await collect(server.service, additions)
        finally:
            machine.close()

    return {family.name: family for family in server.ask(read())}


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)


def named_in(text: str) -> set[str]:
    """Metrics, without the suffixes of a histogram's series; recording rules have a colon."""
    names = set(re.findall(r"(?<![\w:])((?:edgeward|process)_[a-z0-9_]+)(?![\w:(])", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yaml"])
def test_every_metric_that_is_named_exists(file: str, families: dict[str, Family]) -> None:
    text = (FOLDER / file).read_text()
    if file.endswith(".json"):
        document = json.loads(text)
        asked = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
        asked += [variable["query"] for variable in document["templating"]["list"]]
        text = "\n".join(asked)
    names = named_in(text)
    assert len(names) > 8
    assert names <= set(families), "asked for and not there"


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = (FOLDER / "alerts.yaml").read_text().split("      - alert: ")[1:]
    assert len(alerts) > 10
    for alert in alerts:
        assert re.search(r"severity: (page|ticket)", alert), alert
        assert "summary:" in alert
        assert "description:" in alert
    recorded = set(re.findall(r"record: (\S+)", (FOLDER / "alerts.yaml").read_text()))
    used = set(re.findall(r"edgeward:\w+:\w+", "".join(alerts)))
    assert used <= recorded


def test_names_and_units_are_as_prometheus_wants_them(families: dict[str, Family]) -> None:
    for name, family in families.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert not re.search(r"_(ms|us|ns|mb|kb|percent)(_|$)", name), "base units only"
        assert name.endswith("_total") == (family.kind is Kind.COUNTER), name
        assert family.text.endswith(".")


@needs_promtool
def test_promtool_accepts_the_alerts() -> None:
    done = promtool("check", "rules", str(FOLDER / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_come_when_the_budget_burns_and_end_with_it() -> None:
    done = promtool("test", "rules", str(RULE_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_knows_a_rule_that_looks_at_one_window_alone(tmp_path: Path) -> None:
    """That the tests of rules can fail: without its short window an alert stays for an hour after the last error."""
    rules, short = (FOLDER / "alerts.yaml").read_text(), "and edgeward:error_ratio:rate5m > 14.4 * 0.001"
    assert short in rules
    (tmp_path / "alerts.yaml").write_text(rules.replace(short, ""))
    tests = RULE_TESTS.read_text().replace("../../cloud_gateway/dashboards/alerts.yaml", "alerts.yaml")
    (tmp_path / "test.yaml").write_text(tests)
    done = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode == 1
    assert "1h30m" in done.stdout + done.stderr


@needs_promtool
def test_promtool_reads_the_page_and_finds_fault_with_foreign_names_alone(
    server: Threaded, families: dict[str, Family]
) -> None:
    with urlopen(f"http://{server.http}/metrics", timeout=20) as reply:
        served = reply.read().decode()
    everything = render([*families.values(), *renamed(families.values())])
    for page in (served, everything):
        done = promtool("check", "metrics", text=page)
        assert done.returncode in (0, LINT), done.stderr
        faults = done.stderr.splitlines()
        assert [line for line in faults if not line.startswith(tuple(alias.theirs for alias in TRITON))] == []


@needs_promtool
def test_promtool_refuses_a_page_that_is_none() -> None:
    assert promtool("check", "metrics", text='edgeward_rows_total{model="digits} 3\n').returncode == 1
