"""Ports for programs that must listen where one has been before: below those that the system gives to whoever asks for any."""

import random
import socket

# Linux and macOS give out ports from 32768 or 49152 on; one of those, free now, may be another program's before ours listens.
LOWEST, HIGHEST = 20_000, 32_000


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens, and which is given to nobody who does not name it."""
    while True:
        port = random.SystemRandom().randrange(LOWEST, HIGHEST)  # processes side by side draw others
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
