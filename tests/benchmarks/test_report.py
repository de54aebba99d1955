import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.arrivals import Arrivals
from benchmarks.charts import Series, spectrum, timeline
from benchmarks.cli import app
from benchmarks.report import facts_of, to_html, to_markdown
from benchmarks.run import report_of
from benchmarks.scenarios import Kind, Scenario
from benchmarks.svg import bars
from runtime.errors import WrongUseError
from tests.benchmarks.made import ENVIRONMENT, SHA, recording

RECORDINGS = [recording("inproc", 700), recording("grpc://h:1", 50, invalid_reason="saturated")]


def test_the_page_is_whole_and_refers_to_nothing_outside() -> None:
    page = to_html(RECORDINGS)
    assert not re.search(r"(src|href)\s*=", page)
    assert "INVALID single" in page
    assert "n &lt; 662" in page
    (embedded,) = re.findall(r'<script type="application/json" id="recordings">(.*?)</script>', page, re.DOTALL)
    samples = json.loads(embedded)
    assert [len(each["latency_us"]) for each in samples] == [700, 50]
    assert samples[0]["header"]["target"]["model"] == "m</script>"


def test_charts_are_well_formed_and_label_their_axes() -> None:
    ok = [Series(f"<{i}>", np.array([0.5, 5.0, 50.0] * 300), np.arange(900) / 100) for i in range(3)]
    for chart in (spectrum(ok), timeline(ok), bars([("<a>", 1234.0)], "requests/s")):
        root = ElementTree.fromstring(f"<div>{chart}</div>")
        texts = " ".join(root.itertext())
        assert "ms" in texts or "requests/s" in texts
    dashes = re.findall(r'<polyline[^>]*stroke-dasharray="([^"]*)"', spectrum(ok))
    assert len(set(dashes)) == 3


def test_nothing_answered_is_said() -> None:
    assert "No request was answered" in spectrum([Series("a", np.array([]), np.array([]))])


def test_markdown_has_one_row_a_recording_in_each_table_and_names_the_machine() -> None:
    text = to_markdown(RECORDINGS)
    assert text.count("| inproc, single, a") == 1
    assert text.count("| inproc, single |") == 1
    assert "a\\|b" in text
    assert "some processor" in text
    assert "instruction sets: SSE4.1, AVX2" in text
    assert "INVALID" in text


def test_both_forms_tell_what_it_took_and_which_model_it_was() -> None:
    server = recording("https://h:1", 700, offered_qps=1000.0, target={**RECORDINGS[0].header["target"], "digests": {}})
    for text in (to_markdown([RECORDINGS[0], server], 5.0), to_html([RECORDINGS[0], server], 5.0)):
        for heading in ("offered/s", "goodput/s", "CPU s / 1,000", "peak MiB", "J / 1,000", "model sha256"):
            assert heading in text
        for cell in (
            "| 1,000 |" if text.startswith("|") else "<td>1,000</td>",
            "0.125",
            "77",
            "3.50",
            SHA[:12],
            SHA,
            "not told",
        ):
            assert cell in text, cell
        assert "within 5 ms" in text
    assert "goodput/s" not in to_markdown(RECORDINGS)


def test_facts_are_of_every_recording_and_say_where_they_differ() -> None:
    other = recording("grpc://h:1", 50, seed=7, environment={**ENVIRONMENT, "kernel": "7"})
    facts = dict(facts_of([RECORDINGS[0], other]))
    assert facts["processor"] == "some processor"
    assert facts["kernel"] == "6 (inproc); 7 (grpc://h:1)"
    assert facts["seed"] == "1 (inproc); 7 (grpc://h:1)"
    assert facts["model sha256"] == SHA
    again = recording("inproc", 50, Scenario(Kind.MULTI, 8), seed=9, started="2026-01-01T00:09:00+00:00")
    facts = dict(facts_of([RECORDINGS[0], other, again]))
    assert facts["seed"] == "1 (inproc single); 7 (grpc://h:1 single); 9 (inproc multi 8 rows)"
    assert facts["kernel"] == "6 (inproc); 7 (grpc://h:1)"
    assert facts["started"] == "2026-01-01T00:00:00+00:00 to 2026-01-01T00:09:00+00:00"


def test_a_curve_is_of_the_furthest_percentile_that_two_rates_have() -> None:
    def page(*sizes: int) -> str:
        loads = [Scenario(Kind.SERVER, arrivals=Arrivals.parse(f"poisson:{100 * (n + 1)}")) for n in range(len(sizes))]
        return to_html([recording("inproc", n, load) for n, load in zip(sizes, loads, strict=True)])

    assert "p99 latency, ms (log scale)" in page(700, 700, 100)
    assert "p90 latency, ms (log scale)" in page(700, 100, 100, 100)
    assert "none of these rates is beyond one" in page(700, 700), "both are as fast"
    # Without a curve, each rate has charts of its own; with one, few have.
    assert page(9, 9, 9, 9).count("<h2>server") == 4
    assert page(700, 700, 700, 700).count("<h2>server") == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_search", [False, True])
def test_a_run_in_which_nothing_was_measured_is_a_run_and_its_folder_in_use(tmp_path: Path, is_search: bool) -> None:
    words = ["run", "--model", "m", "--target", "http://127.0.0.1:1", "--output", str(tmp_path)]
    more = ["--find-max", "--slo", "50ms"] if is_search else ["--scenario", "single"]
    assert CliRunner().invoke(app, [*words, *more]).exit_code == 1
    index = {path.name for path in tmp_path.iterdir()}
    assert index == {"find-max.json" if is_search else "run.json"}
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "not measured: m on http://127.0.0.1:1" in said
    assert "is unreachable" in said
    assert "holds no recordings" in said
    assert {path.name for path in tmp_path.iterdir()} == index, "there is nothing to draw"
    told = json.loads(CliRunner().invoke(app, ["report", str(tmp_path), "--json"]).stdout)
    assert (told["rows"], told["is_valid"], len(told["failed"])) == ([], False, 1)
    for again in (["--scenario", "single"], ["--find-max", "--slo", "50ms"]):
        refused = CliRunner().invoke(app, [*words, *again]).exception
        assert isinstance(refused, WrongUseError)
        assert "holds another run" in str(refused)


def test_what_failed_and_was_stopped_is_taken_from_the_index(tmp_path: Path) -> None:
    assert report_of(RECORDINGS[:1], tmp_path).is_valid, "without an index nothing is known of what failed"
    index = {"failed": ["m on agent (single): unreachable"], "was_stopped": True, "slo_ms": 5.0}
    for name in ("find-max.json", "run.json"):
        (tmp_path / name).write_text(json.dumps(index))
        told = report_of(RECORDINGS[:1], tmp_path)
        assert (told.failed, told.was_stopped, told.slo_ms) == (tuple(index["failed"]), True, 5.0)
        assert not told.is_valid
    for form in (to_markdown, to_html):
        assert "Not measured: m on agent (single): unreachable" in form(RECORDINGS, None, told.failed)
