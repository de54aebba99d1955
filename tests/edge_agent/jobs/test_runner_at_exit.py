"""An agent that ends without closing its jobs, in the middle of a batch: a whole process, and what its board says after it."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_agent.jobs.board import JobState

ROOT = Path(__file__).parents[3]
ENDS_WITHIN_S = 60.0

AGENT = """
import asyncio
import sys
from pathlib import Path

from edge_agent.jobs.jobs import Jobs
from tests.edge_agent.jobs.test_jobs import Engine, Stuck


async def run():
    folder = Path(sys.argv[1])
    service = Stuck(2)
    jobs = Jobs(folder / "jobs.db", service, Engine(), [folder])
    await asyncio.to_thread(jobs.submit, "m", folder / "in.npy", folder / "out.npy", "edge")
    await service.is_stuck.wait()
    return jobs


loop = asyncio.new_event_loop()
jobs = loop.run_until_complete(run())
print("stuck")
"""


@pytest.mark.slow
def test_a_batch_that_nobody_will_answer_is_withdrawn_and_its_job_waits_for_the_next_start(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.arange(40, dtype=np.float32).reshape(20, 2))
    arguments = [sys.executable, "-c", AGENT, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=ENDS_WITHIN_S)
    assert (done.returncode, done.stdout) == (0, "stuck\n"), done.stderr
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:  # to open the board would queue it
        assert database.execute("SELECT state FROM jobs").fetchall() == [(JobState.QUEUED,)]
