import json
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np

from benchmarks.charts import Series, spectrum, timeline
from benchmarks.report import to_html, to_markdown
from benchmarks.samples import Recording, Samples
from benchmarks.scenarios import Kind, Scenario
from benchmarks.svg import bars


def recording(target: str, n: int, invalid: str | None = None) -> Recording:
    planned = np.arange(n, dtype=np.int64) * 1_000_000
    done = planned + np.random.default_rng(1).integers(500_000, 9_000_000, n)
    zeros = np.zeros(n, dtype=np.int64)
    header: dict[str, Any] = {
        "setting": {"model": "m", "target": target, "backend": "auto"},
        "scenario": Scenario(Kind.SINGLE).to_dict(),
        "scenario_text": "single",
        "target": {"model": "m</script>", "platform": "p"},
        "started": "2026-01-01T00:00:00+00:00",
        "statuses": ["ok"],
        "origins": [{"served_by": "edge", "backend": "a|b"}],
        "offered_qps": None,
        "invalid_reason": invalid,
        "doubts": [],
        "cpu_s_per_1000": None,
        "peak_memory_bytes": None,
        "seed": 1,
        "warm_up_s": 0.5,
        "environment": {
            "cpu": "some processor",
            "hardware_text": {"cores allowed": "2", "memory allowed": "1 GiB", "clock governor": "unknown"},
            "kernel": "6",
            "python": "3.11",
            "libraries": {"numpy": "2"},
            "commit": None,
        },
    }
    return Recording(header, Samples(planned, planned, done, zeros + 1, zeros, zeros))


RECORDINGS = [recording("inproc", 700), recording("grpc://h:1", 50, invalid="saturated")]


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


def test_markdown_has_one_row_a_recording_and_names_the_machine() -> None:
    text = to_markdown(RECORDINGS)
    assert text.count("\n| ") == 2
    assert "a\\|b" in text
    assert "some processor" in text
    assert "INVALID" in text
