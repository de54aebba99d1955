"""Other people's clients against `edgeward serve`, and the kept table of what came of them.

python -m tests.runtime.serving.example_clients CLIENT_CHECKOUT MODELS KSERVE_PYTHON    # writes benchmarks/results/

CLIENT_CHECKOUT is a checkout of triton-inference-server/client, MODELS the folder of Triton's example models (`triton_examples`),
KSERVE_PYTHON an interpreter that has kserve: an environment of its own, for with what it depends on it takes half a gigabyte.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tests.runtime.serving.real import serving_models
from tests.runtime.serving.triton_examples import verdicts

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "benchmarks" / "results" / "example-clients.md"
EXAMPLES = Path("src") / "python" / "examples"
KSERVE_PROGRAM = Path(__file__).with_name("kserve_clients.py")
PATIENCE_S = 100


def run_kserve(python: str, grpc: str, http: str) -> tuple[list[str], str]:
    """What KServe's clients were asked and answered rightly, and everything they said."""
    done = subprocess.run(
        [python, str(KSERVE_PROGRAM), grpc, http], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    lines = done.stdout.splitlines()
    return (lines[:-1] if lines[-1:] == ["passed"] else []), done.stdout + done.stderr[-2000:]


def table(triton: Mapping[str, str], kserve: list[str], versions: Mapping[str, str]) -> str:
    """The Markdown file."""
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    lines = [
        "# Example clients",
        "",
        "Other people's clients, unmodified, against `edgeward serve`. Written by",
        "`python -m tests.runtime.serving.example_clients`; "
        "`pytest --triton-examples FOLDER --kserve-python PYTHON` runs them again and fails where this table is not so any more.",
        f"Versions: {told}.",
        "",
        "## Triton's Python examples (triton-inference-server/client, src/python/examples)",
        "",
        "| example | |",
        "|---|---|",
        *(f"| `{example}` | {verdict} |" for example, verdict in triton.items()),
        "",
        "## KServe's clients (InferenceRESTClient, InferenceGRPCClient)",
        "",
        "| asked | |",
        "|---|---|",
        *(f"| {asked} | passes |" for asked in kserve),
        "",
    ]
    return "\n".join(lines)


def kept(section: str) -> dict[str, str]:
    """The rows of the kept table under the heading that begins so."""
    text = TABLE.read_text(encoding="utf-8").partition(f"## {section}")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    return {row[0].strip(" `"): row[1].strip(" |") for row in rows}


def _versions(checkout: Path, python: str) -> dict[str, str]:
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    )
    asked = "from importlib.metadata import version; print(version('kserve'))"
    kserve = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    found = {name: version(name) for name in ("edgeward", "tritonclient", "grpcio", "onnxruntime")}
    return {**found, "triton's client repository": commit.stdout.strip() or "of an unknown commit", "kserve": kserve}


def main(checkout: Path, models: Path, python: str) -> None:
    """Runs all of them and keeps the table; fails where KServe's do not pass."""
    with tempfile.TemporaryDirectory() as scratch, serving_models(Path(scratch)) as server:
        asked, said = run_kserve(python, server.grpc, server.http)
    if not asked:
        raise SystemExit(said)
    TABLE.write_text(table(verdicts(checkout / EXAMPLES, models), asked, _versions(checkout, python)), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
