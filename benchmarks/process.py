"""CPU time and memory of the processes behind a target, where they run on this machine."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.settings import TargetName


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes used so far, and hold now."""

    cpu_s: float
    memory_bytes: int


class ServerProcesses:
    """The processes that listen on a local address, and their children; none where the address is another machine's."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._processes = processes

    @classmethod
    def of(cls, target: TargetName) -> ServerProcesses:
        """Found by the listening port; empty in process, for another machine, or where the system does not tell."""
        host, _, port = target.address.rpartition("://")[2].rstrip("/").rpartition(":")
        if target.is_inproc or not port.isdecimal() or not _is_loopback(host.strip("[]")):
            return cls([])
        try:
            pids = {
                c.pid
                for c in psutil.net_connections("tcp")
                if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == int(port) and c.pid is not None
            }
            parents = [psutil.Process(pid) for pid in sorted(pids)]
            found = {p.pid: p for parent in parents for p in (parent, *parent.children(recursive=True))}
        except (psutil.Error, OSError):
            return cls([])
        return cls(list(found.values()))

    def usage(self) -> Usage | None:
        """Their sum; None when there are none or one has ended."""
        if not self._processes:
            return None
        try:
            times = [process.cpu_times() for process in self._processes]
            return Usage(
                sum(t.user + t.system for t in times), sum(process.memory_info().rss for process in self._processes)
            )
        except psutil.Error:
            return None


def own_peak_bytes() -> int:
    """The most memory that this process ever held."""
    if sys.platform == "linux":
        # Not getrusage: its maximum outlives exec, so a child would report its parent's.
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
