"""Lives of an agent that ends at random moments, over one spool: requests go in, and what became of each is counted.

Some lives end where it hurts most: at the gateway's answer, which a proxy cuts after the gateway has kept it, and in the replay of
what was submitted while the gateway was away.

An acknowledged request must be answered in the end, and every answer that anybody sees for a key must be the same, although each
execution at the gateway gives another number. `spool_processes` starts and kills both, `spool_link` cuts answers between them.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bar import counted
from benchmarks.spool_gateway import MODEL
from benchmarks.spool_link import Link
from benchmarks.spool_processes import Process, preload, run_agent, run_gateway
from runtime.client import connect
from runtime.client.document import fetch_document
from runtime.client.spooled import Spooled
from runtime.client.sync import Client
from runtime.errors import EdgewardError

# The last life: everything acknowledged is answered within this.
SETTLE_TIMEOUT_S = 180.0
# Of the kills, one in so many also takes the gateway.
GATEWAY_EVERY = 5
# From the first acknowledgement of a life to its end; one life in so many ends even before that.
LONGEST_LIFE_S = 0.5
EARLY_EVERY = 7
EARLY_LIFE_S = 1.0
# Without an acknowledgement (a slow machine, a spool that is busy with its recovery) a life ends after this.
NO_ANSWER_S = 20.0
# A batch of submissions between two looks at the clock.
PAUSE_S = 0.002
# One life in so many ends as the gateway begins to answer; half of these are spared, and only the answer is cut.
CUT_EVERY = 3
# One in so many begins without a gateway, for so long; the kill comes once it is back.
OUTAGE_EVERY = 4
OUTAGE_S = 0.5


@dataclass
class Tally:
    """What came of it."""

    kills: int = 0
    gateway_kills: int = 0
    cut_answers: int = 0
    """That the gateway had kept when they were cut; with or without the agent."""
    kills_in_replay: int = 0
    """With requests acknowledged that the gateway had not run, after it had run others of this life."""
    submitted: int = 0
    """Requests, each under a key of its own; sent again with the same key where no acknowledgement came."""
    acknowledged: int = 0
    answered: int = 0
    lost: int = 0
    """Acknowledged, and neither answered nor waiting at the end."""
    executions: int = 0
    deduplicated: int = 0
    """Answers of the gateway from what it had kept: without it, as many more executions with other results."""
    executed_again: int = 0
    """Keys that the gateway ran more than once: it was killed before it could keep the first result."""
    different_results: int = 0
    """Keys under which two different results were ever seen."""
    wrong_answers: int = 0
    """Answers to another request than the one under the key."""
    seen: dict[str, set[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        said = asdict(self)
        del said["seen"]
        return said


class Trial:
    """Lives of one agent and its gateway over one spool."""

    def __init__(self, home: Path, seed: int) -> None:
        self._home = home
        self._chance = random.Random(seed)
        self._port = _free_port()
        self._link = Link(self._port)
        self._gateway: Process | None = None
        self._acknowledged: dict[str, int] = {}
        self._unsure: dict[str, int] = {}
        """Sent, and not acknowledged: to be sent again with the same key."""
        self._unfetched: set[str] = set()
        self.tally = Tally()

    def run(self, kills: int) -> Tally:
        """Everything, to the count."""
        preload()
        try:
            self._start_gateway()
            for number in counted(range(kills), "kill"):
                self._live_and_die(number)
            self._settle()
        finally:
            self._link.close()
            if self._gateway is not None:
                self._gateway.kill()
        self._count_executions()
        return self.tally

    def _live_and_die(self, number: int) -> None:
        is_outage = number % OUTAGE_EVERY == OUTAGE_EVERY - 1
        if is_outage:
            self._stop_gateway()
        agent = self._start_agent()
        try:
            with connect(agent.told["grpc"], timeout_s=5.0) as client:
                if is_outage:
                    self._submit_for(client, OUTAGE_S)
                    self._start_gateway()
                before = self._executed()
                if number % CUT_EVERY == CUT_EVERY - 1:
                    self._link.cut_next(agent.pid if self._chance.random() < 0.5 else None)
                is_early = number % EARLY_EVERY == EARLY_EVERY - 1
                if not is_early:
                    patience = time.monotonic() + NO_ANSWER_S
                    while not self._submit_one(client) and time.monotonic() < patience:
                        time.sleep(PAUSE_S)
                end = time.monotonic() + self._chance.uniform(0, EARLY_LIFE_S if is_early else LONGEST_LIFE_S)
                takes_gateway = number % GATEWAY_EVERY == GATEWAY_EVERY - 1
                gateway_end = end - self._chance.uniform(0, LONGEST_LIFE_S / 2) if takes_gateway else None
                # The kill comes from a process that sleeps until then: in the middle of a call, not between two.
                killer = _kill_at(agent.pid, end)
                try:
                    while time.monotonic() < end and self._link.killed != agent.pid:
                        self._submit_one(client)
                        if self._unfetched and self._chance.random() < 0.2:
                            self._fetch(client, self._chance.choice(sorted(self._unfetched)))
                        if gateway_end is not None and time.monotonic() >= gateway_end:
                            self._restart_gateway()
                            gateway_end = None
                        time.sleep(PAUSE_S)
                finally:
                    killer.wait()
                if gateway_end is not None:
                    self._restart_gateway()
        finally:
            agent.kill()
        self.tally.kills += 1
        after = self._executed()
        self.tally.kills_in_replay += len(after) > len(before) and not after.issuperset(self._acknowledged)

    def _submit_for(self, client: Client, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._submit_one(client)
            time.sleep(PAUSE_S)

    def _executed(self) -> set[str]:
        file = self._home / "executions"
        return {json.loads(line)["key"] for line in file.read_text().splitlines()} if file.exists() else set()

    def _submit_one(self, client: Client) -> bool:
        """Sends a new request, or one that was not acknowledged; whether it is now."""
        if self._unsure and self._chance.random() < 0.5:
            key, value = next(iter(self._unsure.items()))
        else:
            value = self.tally.submitted
            key = f"key-{value}"
            self.tally.submitted += 1
            self._unsure[key] = value
        try:
            client.submit(MODEL, {"value": np.array([value], np.int64)}, key=key)
        except EdgewardError:
            return False
        del self._unsure[key]
        self._acknowledged[key] = value
        self._unfetched.add(key)
        return True

    def _fetch(self, client: Client, key: str) -> bool:
        try:
            response = client.fetch(Spooled(MODEL, key))
        except EdgewardError:
            return False
        if response is None:
            return False
        self.tally.seen.setdefault(key, set()).add(int(response.outputs["nonce"][0]))
        if int(response.outputs["value"][0]) != self._acknowledged[key]:
            self.tally.wrong_answers += 1
        # One in ten is asked again in later lives.
        if self._chance.random() < 0.9:
            self._unfetched.discard(key)
        return True

    def _settle(self) -> None:
        """A last life that is not killed: everything is answered, or it is lost."""
        agent = self._start_agent()
        try:
            with connect(agent.told["grpc"]) as client:
                end = time.monotonic() + SETTLE_TIMEOUT_S
                while self._depth(agent) and time.monotonic() < end:
                    time.sleep(0.1)
                for key in sorted(self._acknowledged):
                    self.tally.acknowledged += 1
                    if self._fetch(client, key):
                        self.tally.answered += 1
                    else:
                        self.tally.lost += 1
        finally:
            agent.kill()
        self.tally.different_results = sum(len(nonces) > 1 for nonces in self.tally.seen.values())

    def _count_executions(self) -> None:
        lines = (self._home / "executions").read_text().splitlines()
        by_key = Counter(json.loads(line)["key"] for line in lines)
        self.tally.executions = len(lines)
        self.tally.deduplicated = len((self._home / "deduplicated").read_text().splitlines())
        self.tally.cut_answers = self._link.cut_answers
        self.tally.executed_again = sum(count > 1 for count in by_key.values())

    def _start_agent(self) -> Process:
        return Process(run_agent, str(self._home), f"127.0.0.1:{self._link.port}")

    def _start_gateway(self) -> None:
        self._gateway = Process(run_gateway, str(self._home), self._port)

    def _stop_gateway(self) -> None:
        assert self._gateway is not None
        self._gateway.kill()
        self.tally.gateway_kills += 1

    def _restart_gateway(self) -> None:
        self._stop_gateway()
        self._start_gateway()

    @staticmethod
    def _depth(agent: Process) -> int:
        told = fetch_document(agent.told["http"], "/edgeward/spool", timeout_s=30.0)
        return int(told["depth"])


def _kill_at(pid: int, at: float) -> subprocess.Popen[bytes]:
    wait_s = max(at - time.monotonic(), 0)
    return subprocess.Popen(["sh", "-c", f"sleep {wait_s:.4f}; kill -9 {pid} 2>/dev/null"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
