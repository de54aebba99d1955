"""The tables of `bench run`, on terminals of several widths."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from benchmarks.columns import meaning, who
from benchmarks.comparison import compare_blocks
from benchmarks.notes import notes_of
from benchmarks.row import row_of
from benchmarks.run import Cell, Failed, failures_of
from benchmarks.scenarios import Wishes, plan
from benchmarks.settings import Setting
from benchmarks.significance import Blocks
from benchmarks.table import comparison_table, found_table, tables_of
from tests.benchmarks.made import recording, with_errors

ROWS = [
    row_of(made, slo_ms=5.0)
    for made in (
        recording("inproc", 700, origins=[{"served_by": "", "backend": "fp32.onnx on onnxruntime-cpu, 2 threads"}]),
        with_errors(
            recording("gateway=https://gateway.example:8000", 20_000, offered_qps=1234.0), "503 UNAVAILABLE", 4
        ),
        recording("grpc://127.0.0.1:8001", 50, invalid_reason="the generator is saturated"),
    )
]


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*tables_of(ROWS, width), sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 240])
def test_figures_are_whole_at_any_width(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in (
        "n < 662",
        "n < 6,636",
        "20,000",
        "0.125",
        "CPU s / 1,000",
        "goodput/s",
        "J / 1,000",
    ):
        assert word in text, word
    assert {"503", "UNAVAILABLE", "5,000"} <= set(text.split()), "codes may fold between words"
    for column in ("client ms", "wire ms", "queue ms", "batch ms", "execute ms"):
        assert column in text


def test_a_narrow_terminal_gets_tables_below_each_other_and_a_wide_one_has_one_and_where_the_time_went() -> None:
    assert len(tables_of(ROWS, 240)) == 2
    narrow = printed(80)
    assert len(tables_of(ROWS, 80)) > 2
    assert "INVALID single" in " ".join(narrow.split())
    lines = narrow.splitlines()
    for together in (
        ("n", "p50 ms", "p99.9 ms"),
        ("offered/s", "rows/s", "errors"),
        ("CPU s / 1,000", "peak MiB", "J / 1,000"),
    ):
        assert any(all(word in line for word in together) for line in lines), f"{together} is torn apart"


def test_what_keeps_a_setting_from_being_measured_is_said_once() -> None:
    agent, other = Setting("digits", "agent"), Setting("digits", "inproc")
    refused = "127.0.0.1:8001 is unreachable"
    failed = [
        Failed(Cell(agent, plan("single", Wishes())), refused),
        Failed(Cell(agent, plan("multi", Wishes())), refused),
        Failed(Cell(other, plan("single", Wishes())), "no backend"),
    ]
    assert failures_of(failed) == (
        f"digits on agent (single, multi 8 rows): {refused}",
        "digits on inproc (single): no backend",
    )


def test_the_highest_rates_fit_80_columns_with_their_headings_whole() -> None:
    figures = {"n": 20_000, "p50_ms": 1.25, "p99_ms": 49.5, "achieved_qps": 1650.0, "goodput_qps": 1649.0}
    search = {
        "target": "agent",
        "backend": "auto",
        "backend_used": "edge: fp32.onnx on onnxruntime-cpu, 1 thread",
        "max_qps": 1664.0,
        "is_lower_bound": True,
        "at_max": figures,
        "probes": [{}] * 14,
    }
    console = Console(file=io.StringIO(), width=80)
    console.print(found_table([search], "p99 <= 50 ms"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for whole in ("achieved/s", "goodput/s", ">= 1664", "20,000", "1,650", "agent, edge:", "onnxruntime-cpu,"):
        assert whole in text


def test_the_backend_is_said_once_where_rows_differ_in_more() -> None:
    first, *others = printed(80).split("where the time went")[0].split("offered/s")
    assert "onnxruntime-cpu" in first
    assert not any("onnxruntime-cpu" in other for other in others)
    forced = [replace(ROWS[0], backend=backend) for backend in ("litert-cpu", "onnxruntime-cpu")]
    console = Console(file=io.StringIO(), width=80)
    console.print(*tables_of(forced, 80), sep="\n")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("litert-cpu") == len(tables_of(forced, 80)), "nothing else tells them apart"


def test_what_a_person_stopped_is_marked() -> None:
    stopped = replace(ROWS[0], was_stopped=True)
    assert who([stopped]).cell(stopped).startswith("inproc, stopped single")
    assert any(note.startswith("stopped: inproc single: ") for note in notes_of([stopped]))
    assert stopped.to_dict()["was_stopped"]


def test_from_when_latency_counts_is_said_of_what_was_measured() -> None:
    lag = {"p50": 0.1, "p99": 0.2, "max": 0.3}
    opened = replace(ROWS[0], lag_ms=lag)
    assert meaning([ROWS[0]]).startswith("latency from the send time: a closed loop")
    assert meaning([opened]).startswith("latency from the planned send time; lag")
    assert "in closed loops (all but server) from the send time" in meaning([ROWS[0], opened])


def test_what_is_compared_is_named_in_full_in_80_columns() -> None:
    rng = np.random.default_rng(1)
    blocks = [rng.lognormal(0, 0.3, 400) for _ in range(5)]
    name = "test_update_of_a_sketch[8 x 8 and 10 scores-histogram-of-all]"
    found = compare_blocks(name, ("A", "B"), blocks, blocks, of=Blocks.ROUNDS, threshold=0.05)
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison_table(found))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    assert "1.000 [1.000, 1.000]" in text
    named = "".join(line.split("  ")[0].strip() for line in text.splitlines()[1:])
    assert named.replace(" ", "") == name.replace(" ", "") * 2


def test_failures_have_a_column_where_there_are_any() -> None:
    blocks = [np.full(400, 2.0)] * 6

    def shown(*errors: dict[str, int]) -> str:
        found = compare_blocks("x", ("A", "B"), blocks, blocks, of=Blocks.ROUNDS, threshold=0.05, errors=errors)  # type: ignore[arg-type]
        console = Console(file=io.StringIO(), width=120)
        console.print(comparison_table(found))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "failed" not in shown({}, {})
    text = shown({}, {"503 UNAVAILABLE": 1800, "UNKNOWN": 1})
    assert "failed A / B" in text
    assert "0 / 1,801" in text
