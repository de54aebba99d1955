"""A small server of the protocol over REST whose slowness is known, on a real socket: what tells whether a generator is honest.

    python -m benchmarks.fake_server 0.004      # every answer takes 4 ms; prints its address, ends with its standard input

Standard library alone, a thread a connection.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "fake"
MODEL = {
    "name": NAME,
    "versions": ["3"],
    "platform": "fake_engine",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}
REPLY = {
    "model_name": NAME,
    "model_version": "3",
    "parameters": {"served_by": "cloud", "backend": "fake on nothing"},
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}],
}

Behave = Callable[[int], int]
"""From the number of an inference to its HTTP status; may sleep."""


def answer_at_once(number: int) -> int:
    """Always well."""
    return 200


def sleep_first(seconds: float) -> Behave:
    """Answers well after `seconds`."""

    def behave(number: int) -> int:
        time.sleep(seconds)
        return 200

    return behave


class FakeServer:
    """Answers inferences as `behave` says, from threads of this process, until `close`."""

    def __init__(self, behave: Behave = answer_at_once) -> None:
        self.behave = behave
        self.inferences = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def target(self) -> str:
        """As `bench run` takes it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @staticmethod
    def stall_every_second(number: int) -> int:
        """In the first 200 ms of every second nobody is answered."""
        into_s = time.monotonic() % 1.0
        if into_s < 0.2:
            time.sleep(0.2 - into_s)
        return 200

    def close(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _count(self) -> int:
        with self._lock:
            self.inferences += 1
            return self.inferences

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                known = {
                    "/v2": {"name": "fake-server", "version": "9", "extensions": []},
                    f"/v2/models/{NAME}": MODEL,
                }
                document = known.get(self.path)
                self._send(200 if document else 404, document or {"error": f"no {self.path} here"})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status = fake.behave(fake._count())
                self._send(status, REPLY if status == 200 else {"error": "told to fail"})

            def _send(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def main() -> None:
    """Serves until standard input ends."""
    server = FakeServer(sleep_first(float(sys.argv[1])))
    print(server.target, flush=True)
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main()
