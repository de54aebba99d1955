"""What the README says of speed stands in the results that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"^## How fast$(.*?)^## ", re.MULTILINE | re.DOTALL)


def tables() -> list[tuple[str, list[list[str]]]]:
    """The tables of the section: the results each names, and its rows of cells without the heads."""
    (section,) = SECTION.findall((ROOT / "README.md").read_text())
    found: list[tuple[str, list[list[str]]]] = []
    for paragraph in section.split("\n\n"):
        if named := re.search(r"\((benchmarks/results/[^)]*\.md)\), made by", paragraph):
            found.append((named[1], []))
        elif paragraph.startswith("|"):
            found[-1][1].extend(cells(line) for line in paragraph.splitlines()[2:])
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


@pytest.mark.parametrize(("source", "rows"), tables(), ids=lambda value: value if isinstance(value, str) else "")
def test_figures_come_from_the_results(source: str, rows: list[list[str]]) -> None:
    written = [cells(line) for line in (ROOT / source).read_text().splitlines() if line.startswith("|")]
    assert rows
    for name, *figures in rows:
        told = [cell for row in written if row[0] == name for cell in row]
        for figure in figures:
            assert any(cell == figure or cell.startswith(f"{figure} (") for cell in told), (name, figure)
