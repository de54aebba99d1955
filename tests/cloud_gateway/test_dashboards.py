"""The dashboard and the alerts ask for metrics that there are, and promtool agrees where it is installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud_gateway.automation.row_details import RowDetails
from cloud_gateway.labelled import LabelledAnswers
from cloud_gateway.monitoring import Monitoring
from cloud_gateway.telemetry import Fleet
from edge_agent.counts import Counts
from edge_agent.metrics import agent_metrics
from runtime.errors import OverloadedError
from runtime.serving.beside import Beside, at_the_edge, in_the_cloud
from runtime.serving.metrics import collect
from runtime.serving.model_metrics import model_metrics
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.history_recorder import HistoryRecorder
from runtime.telemetry.machine import Machine
from tests.runtime.serving.real import serving_models
from tests.runtime.telemetry.test_machine import FakeNvml

FOLDER = Path(__file__).resolve().parents[2] / "cloud_gateway" / "dashboards"
PROMTOOL = shutil.which("promtool")


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    """Every metric that a program of ours can have."""
    with serving_models(tmp_path_factory.mktemp("models")) as server:

        async def spool() -> dict[str, float]:
            return {"requests": 0, "bytes": 0}

        async def nothing() -> dict[str, object]:
            return {}

        async def read() -> list[Family]:
            machine = Machine(FakeNvml())
            labelled = LabelledAnswers(list, dict)
            monitored = Monitoring(None, Fleet(lambda *_: None, None), labelled, RowDetails(), nothing, dict)
            beside = Beside(
                collectors=(
                    model_metrics(server.service, at_the_edge),
                    agent_metrics(Counts(), dict, spool),
                    machine.families,
                    HistoryRecorder().families,
                    monitored.families(in_the_cloud),
                )
            )
            beside.load.note_error(OverloadedError("full"))
            try:
                return await collect(server.service, beside)
            finally:
                machine.close()

        return {family.name: family for family in server.ask(read())}


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


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus has it)")
def test_promtool_accepts_the_alerts() -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "rules", str(FOLDER / "alerts.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus has it)")
def test_an_hour_of_errors_pages_and_an_hour_of_callers_mistakes_does_not(tmp_path: Path) -> None:
    assert PROMTOOL is not None

    def case(error: str, wanted: str) -> str:
        return f"""
  - interval: 1m
    input_series:
      - series: 'edgeward_errors_total{{job="edge", error="{error}", retryable="false"}}'
        values: '0+30x90'
      - series: 'edgeward_inferences_total{{job="edge"}}'
        values: '0+600x90'
    promql_expr_test:
      - expr: count(ALERTS{{alertname="EdgewardErrorBudgetBurns", alertstate="firing", severity="page"}}) or vector(0)
        eval_time: 80m
        exp_samples: [{{value: {wanted}}}]
"""

    tests = (
        f"rule_files: [{FOLDER / 'alerts.yaml'}]\ntests:{case('ExecutionError', '2')}{case('InvalidInputError', '0')}"
    )
    (tmp_path / "test.yaml").write_text(tests)
    done = subprocess.run([PROMTOOL, "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
