"""The tables of `bench run`, on terminals of several widths."""

import io

import pytest
from rich.console import Console

from benchmarks.row import row_of
from benchmarks.run import Cell, Failed
from benchmarks.scenarios import Wishes, plan
from benchmarks.settings import Setting
from benchmarks.table import failures_of, found_table, tables_of
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
    assert failures_of(failed) == [
        f"digits on agent (single, multi 8 rows): {refused}",
        "digits on inproc (single): no backend",
    ]


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
    for whole in ("achieved/s", "goodput/s", ">= 1664", "20,000", "1,650"):
        assert whole in text
