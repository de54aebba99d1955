"""Unix sockets that a server listens on: taken from nobody, for this user alone, and gone afterwards."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from runtime.errors import MachineError, PortInUseError, UnsupportedError, WrongUseError
from runtime.serving.sockets import BACKLOG

# The kernel's sockaddr_un holds 108 bytes on Linux and 104 on macOS, with a zero at the end.
MAX_PATH_BYTES: Final = 103
# Somebody who listens accepts at once; a queue that is full says EAGAIN.
_KNOCK_S: Final = 1.0
ONLY_ME: Final = 0o600


def claim(path: Path) -> None:
    """Makes sure that a socket may be made at `path`: removes a stale one; `PortInUseError` when somebody lives on it."""
    if not hasattr(socket, "AF_UNIX"):
        raise UnsupportedError("this system has no Unix sockets; use the loopback ports")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise WrongUseError(f"the path {path} is longer than {MAX_PATH_BYTES} bytes, the most a socket's may be")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise WrongUseError(f"the folder {path.parent} does not exist; make it, or choose another path") from None
        return
    except OSError as error:
        raise WrongUseError(f"the path {path} cannot be used for a socket: {error}") from error
    if not stat.S_ISSOCK(mode):
        raise WrongUseError(f"{path} is there and is no socket; remove it yourself, or choose another path")
    if _is_alive(path):
        raise PortInUseError(f"another program listens on {path}; stop it, or choose another path")
    path.unlink(missing_ok=True)


@contextmanager
def only_me() -> Iterator[None]:
    """Sockets made meanwhile can be used by this user alone, from the first moment."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def listen_unix(path: Path) -> socket.socket:
    """A listening socket at `path`, claimed first."""
    claim(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with only_me():
            listener.bind(str(path))
        path.chmod(ONLY_ME)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise MachineError(f"cannot listen on the Unix socket {path}: {error}; choose another path") from error
    return listener


def remove(path: Path) -> None:
    """Takes the socket's file away once nobody listens on it any more."""
    with suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode) and not _is_alive(path):
            path.unlink(missing_ok=True)


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(_KNOCK_S)
        try:
            knock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # no right to connect, or its queue is full: somebody is there
    return True
