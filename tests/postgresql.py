"""A PostgreSQL server of the tests' own, on a free loopback port, from whatever installation this machine has."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

PATIENCE_S = 30.0
# The server refuses to run as root; Debian's package makes this user.
USER = "postgres"


@dataclass
class Server:
    """One that runs; `stop` and `start` keep its data."""

    binaries: Path
    folder: Path
    port: int
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user, cwd=self.folder)
        end = time.monotonic() + PATIENCE_S
        ready = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, its connections cut; what was committed stays."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)

    def new_database(self, name: str) -> str:
        """The URL of an empty database."""
        command = [str(self.binaries / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "edgeward", name]
        subprocess.run(command, check=True, timeout=PATIENCE_S, cwd=self.folder)
        return f"postgresql+psycopg://edgeward@127.0.0.1:{self.port}/{name}"


def why_not() -> str | None:
    """Why no server can be had here; None: one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install edgeward[postgres]"
    if binaries() is None:
        return "no PostgreSQL server is installed here: apt-get install postgresql"
    if os.geteuid() == 0 and _user() is None:
        return f"PostgreSQL does not run as root, and there is no user {USER}"
    return None


def binaries() -> Path | None:
    """The folder of `initdb` and the rest; Debian keeps them off PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def server() -> Iterator[Server]:
    """A fresh one, gone with its data at the end."""
    programs = binaries()
    assert programs is not None, why_not()
    user = _user() if os.geteuid() == 0 else None
    # Of its own: other users may not look into pytest's folders.
    with tempfile.TemporaryDirectory(prefix="edgeward-postgresql-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        make = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "edgeward", "-A", "trust", "-E", "UTF8"]
        made = subprocess.run(
            [*make, "--locale=C"],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            user=user,
            cwd=folder,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        running = Server(programs, folder, free_port(), user)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def _user() -> str | None:
    try:
        return pwd.getpwnam(USER).pw_name
    except KeyError:
        return None
