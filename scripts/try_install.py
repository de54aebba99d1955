"""One tool's install of the wheel, from nothing to nothing: see `scripts/try_install`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

UNIT = ".config/systemd/user/edgeward-agent.service"
# Downloads of some hundred megabytes on a slow line.
INSTALL_TIMEOUT_S = 1800.0
ANSWER_TIMEOUT_S = 60.0
# Says yes to everything and writes down what it was told: a service manager for a home where none runs.
FAKE_SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "$HOME/systemctl.log"
"""


class Trial:
    """One home, and commands in it with nothing of the caller's environment but the way to packages."""

    def __init__(self, tool: str, tools: Path, home: Path) -> None:
        self.tool = tool
        self.home = home
        self._tools = tools
        self.commands = home / ".local" / "bin"
        fake = home / "fake" / "systemctl"
        fake.parent.mkdir(parents=True)
        fake.write_text(FAKE_SYSTEMCTL)
        fake.chmod(0o755)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "UV_", "SSL_", "HTTP", "http"))
        }
        self._environment = {
            **kept,
            "HOME": str(home),
            "PATH": os.pathsep.join([str(fake.parent), str(self.commands), "/usr/bin", "/bin"]),
            "UV_CACHE_DIR": str(home / "uv-cache"),
            "UV_PYTHON": sys.executable,
            "PIPX_DEFAULT_PYTHON": sys.executable,
        }

    def run(self, *words: str | Path, timeout_s: float = 120.0) -> str:
        """Standard output; says what went wrong, and ends the trial, where it fails."""
        started = time.perf_counter()
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        print(f"{time.perf_counter() - started:6.1f} s  {' '.join(Path(word).name for word in map(str, words))}")
        return done.stdout

    def install(self, wheel: Path, constraints: Path) -> None:
        """`uv tool install` or `pipx install`, with the versions that this checkout was tried with."""
        if self.tool == "uv":
            words: list[str | Path] = [
                self._tools / "uv",
                "tool",
                "install",
                "--quiet",
                "--constraints",
                constraints,
                wheel,
            ]
        else:
            words = [self._tools / "pipx", "install", "--quiet", f"--pip-args=--constraint={constraints}", wheel]
        self.run(*words, timeout_s=INSTALL_TIMEOUT_S)

    def uninstall(self) -> None:
        """As the tool does it."""
        words = [self._tools / "uv", "tool"] if self.tool == "uv" else [self._tools / "pipx"]
        self.run(*words, "uninstall", "edgeward")

    def first_answer(self) -> str:
        """Runs what the unit says, as a service manager would, on free ports; who answered a row of the digits."""
        line = next(line for line in (self.home / UNIT).read_text().splitlines() if line.startswith("ExecStart="))
        command = [*line.removeprefix("ExecStart=").split(), "--grpc-port", "0", "--http-port", "0", "--json"]
        with subprocess.Popen(
            command, cwd=self.home, env=self._environment, stdout=subprocess.PIPE, text=True
        ) as agent:
            try:
                assert agent.stdout is not None
                address = json.loads(agent.stdout.readline())["http"]
                row = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
                body = json.dumps({"inputs": [row]}).encode()
                request = urllib.request.Request(
                    f"{address}/v2/models/digits/infer", body, {"Content-Type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
                    return str(json.load(answer)["parameters"]["served_by"])
            finally:
                agent.send_signal(signal.SIGTERM)
                if agent.wait(ANSWER_TIMEOUT_S):
                    sys.exit(f"the agent ended with {agent.returncode}")


def main() -> None:
    """Ends with a sentence, and 1, at the first thing that is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=["uv", "pipx"])
    parser.add_argument("tools", type=Path)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("--constraints", type=Path, required=True)
    given = parser.parse_args()
    trial = Trial(given.tool, given.tools, given.home)
    trial.install(given.wheel, given.constraints.absolute())
    edgeward = trial.commands / "edgeward"
    before = _files(trial.home)
    shown = trial.run(edgeward, "agent", "install", "digits", "--dry-run")
    if f"would write {trial.home / UNIT}" not in shown or _files(trial.home) != before:
        sys.exit(f"a dry run is to show the unit and to touch nothing; it said:\n{shown}")
    trial.run(edgeward, "agent", "install", "digits")
    if (who := trial.first_answer()) != "edge":
        sys.exit(f"the first answer is to come from the edge, and came from {who}")
    trial.run(edgeward, "agent", "uninstall", "--purge")
    log = trial.home / "systemctl.log"
    told = log.read_text()
    log.unlink()
    if left := _files(trial.home) - before:
        sys.exit(f"uninstall is to leave nothing behind, and left {sorted(left)}")
    if "--user disable --now edgeward-agent.service" not in told:
        sys.exit(f"the service was not ended: {told}")
    trial.uninstall()
    if edgeward.exists():
        sys.exit(f"{edgeward} is still there")
    print(f"{given.tool}: installed, answered by the edge, uninstalled; nothing left")
    shutil.rmtree(trial.home)


def _files(folder: Path) -> set[str]:
    """All of them but what Python compiles when something is first imported."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


if __name__ == "__main__":
    main()
