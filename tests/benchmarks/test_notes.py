"""The sentences below a table, of measurements whose figures are known."""

from dataclasses import replace

from benchmarks.notes import notes_of
from benchmarks.row import row_of
from tests.benchmarks.made import recording

ROWS = [
    row_of(recording("inproc", 700, origins=[{"served_by": "", "backend": "fp32.onnx on onnxruntime-cpu, 2 threads"}])),
    row_of(recording("grpc://127.0.0.1:8001", 50)),
]


def test_notes_name_what_tells_measurements_apart() -> None:
    doubted = replace(ROWS[0], doubts=("look",), error_texts={"503 UNAVAILABLE": "full"}, invalid_reason="late")
    notes = notes_of([doubted, replace(doubted, backend="litert-cpu")])
    for place in ("inproc single, litert-cpu", "inproc single, fp32.onnx on onnxruntime-cpu, 2 threads"):
        assert f"INVALID: {place}: late" in notes
        assert any(place in note and note.endswith(": look") for note in notes)
        assert any(place in note and note.endswith(": the first 503 UNAVAILABLE: full") for note in notes)
    assert "INVALID: digits on inproc single: late" in notes_of([doubted, replace(doubted, model="digits")])
    assert "INVALID: inproc single: late" in notes_of([doubted]), "one alone needs no more"


def test_doubts_of_one_kind_are_one_note_with_the_worst() -> None:
    busy = [
        replace(ROWS[0], scenario=f"single {n}", doubts=(f"the machine was {n}% busy: look",)) for n in (96, 100, 98)
    ]
    assert "single 96; inproc single 100; inproc single 98: at worst, the machine was 100% busy" in notes_of(busy)[0]
    many = [*busy, replace(busy[0], scenario="multi"), replace(busy[0], doubts=())]
    assert notes_of(many)[0] == "4 of 5 measurements: at worst, the machine was 100% busy: look"


def test_what_is_missing_is_one_note_and_of_what_was_answered() -> None:
    assert [note for note in notes_of(ROWS) if "n too small" in note] == [
        "n too small for p90, needs 64; n too small for p99, needs 662; measure longer (--duration) or more (--requests)"
    ]
    silent = row_of(recording("inproc", 50, statuses=["gone", "ok"]))
    assert silent.summary.failed == 50
    assert not any("n too small" in note for note in notes_of([silent]))
