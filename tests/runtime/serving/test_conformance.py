"""CONFORMANCE.md says what a server of this checkout answers."""

from pathlib import Path

import pytest

from runtime.serving.grpc.front import why_not_native
from runtime.serving.memory.system_memory import FOLDER
from tests.runtime.serving import conformance


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is absent: the table was made on Linux, with shared memory")
def test_the_committed_table_is_what_a_server_answers(tmp_path: Path) -> None:
    if (why_not := why_not_native(has_tls=False)) is not None:
        pytest.skip(f"the table has both gRPC fronts: {why_not}")
    seen = conformance.table(tmp_path)
    committed = conformance.FILE.read_text(encoding="utf-8") if conformance.FILE.exists() else ""
    assert committed == seen, "run: python -m tests.runtime.serving.conformance"
