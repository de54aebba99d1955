"""The agent's folder is one process's: spool, jobs and history are no two agents' to share, nor anybody's to remove meanwhile.

`agent sync` where no agent answers has the folder for the moment in which it writes, and beside it a lock on its passes alone.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from runtime.errors import ConflictError
from runtime.file_lock import lock_now

log = logging.getLogger(__name__)

T = TypeVar("T")

LOCK: Final = "lock"
LOOK_EVERY_S: Final = 0.1
HANDOVER_S: Final = 5.0
"""How long an agent that starts waits for who writes there just then: a pass of `agent sync` takes as long as a disk's answer."""
BY_ITSELF: Final = "end that one first, or give the other a folder of its own by EDGEWARD_HOME"
BY_ITS_ADDRESS: Final = "have that one do it, by --host and --http-port, or end it first"


@contextmanager
def hold(home: Path, patience_s: float = 0.0, next_step: str = BY_ITSELF) -> Iterator[None]:
    """`home`, made where it is not there, is this process's until the end.

    `ConflictError` names the process that has it still after `patience_s`, and the `next_step`. Where it takes no lock (a home
    that is read only, a file system without locks), that is said, and nothing is held.
    """
    try:
        lock = _within(patience_s, lambda: _locked(home), BlockingIOError)
    except BlockingIOError:
        raise ConflictError(_taken(home, next_step)) from None
    except OSError as error:
        log.warning("%s takes no lock (%s): nothing keeps a second agent, or an uninstall, from it", home, error)
        yield
        return
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def hold_pass(folder: Path) -> Iterator[None]:
    """A pass over the synced models of `folder` is this process's; `ConflictError` names the process that is at one.

    Where it takes no lock nothing is held: whoever runs an agent there was told.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _locked(folder)
    except BlockingIOError:
        text = f"another process looks for new models: {_holder(folder)}, into {folder}; wait for its end"
        raise ConflictError(text) from None
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def hold_to_remove(home: Path, patience_s: float) -> Iterator[None]:
    """`home`, if it is there, is this process's while it removes it; for `patience_s` an agent that ends may have it still.

    Windows removes no folder that has a file open, this one's too: there it is only looked at first.
    """
    _within(patience_s, lambda: require_free(home), ConflictError)
    if sys.platform == "win32" or not home.exists():
        yield
    else:
        with hold(home):
            yield


def require_free(home: Path, next_step: str = BY_ITSELF) -> None:
    """`ConflictError`, which names the process and the `next_step`, where one holds `home` now."""
    try:
        lock = os.open(home / LOCK, os.O_RDWR)
    except OSError:
        return  # nobody ran here, or not for this user to know
    try:
        lock_now(lock)
    except BlockingIOError:
        raise ConflictError(_taken(home, next_step)) from None
    except OSError:
        return  # no locks here, as whoever runs was told
    finally:
        os.close(lock)


def _within(patience_s: float, attempt: Callable[[], T], refused: type[Exception]) -> T:
    """What `attempt` gives, which is made again while it is `refused` and the time is not over."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except refused:
            if time.monotonic() >= end:
                raise
        time.sleep(LOOK_EVERY_S)


def _locked(home: Path) -> int:
    """The lock's file, open, locked, and the one that lies there: an uninstall may remove it at any moment until then."""
    while True:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock_now(lock)
            is_ours = os.path.samestat(os.fstat(lock), (home / LOCK).stat())
        except FileNotFoundError:
            is_ours = False
        except BaseException:
            os.close(lock)
            raise
        if is_ours:
            break
        os.close(lock)
    with suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()} on {platform.node()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC".encode())
    return lock


def _taken(home: Path, next_step: str) -> str:
    return f"an agent runs on {home}: {_holder(home)}; {next_step}"


def _holder(folder: Path) -> str:
    try:
        holder = (folder / LOCK).read_text(encoding="utf-8")
    except OSError:
        holder = ""
    return f"process {holder or 'unknown'}"
