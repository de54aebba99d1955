"""A bundle over a link that breaks: gone on with, never larger than said, and whole by its digest or not there."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.sync.download import Source, download, fetch_index, tell_outcomes
from edge_agent.sync.interruption import Interruption
from edge_agent.sync.record import Offer
from runtime.errors import (
    BundleError,
    CancelledError,
    EdgewardError,
    PayloadTooLargeError,
    PeerFailedError,
    PeerUnreachableError,
    UnauthenticatedError,
)

CONTENT = bytes(range(256)) * 4000
PATIENCE_S = 30.0
SHA = hashlib.sha256(CONTENT).hexdigest()
OFFER = Offer("m", 2, "d" * 64, SHA, len(CONTENT))


class Server(ThreadingHTTPServer):
    """Sends `content`, but breaks off each reply after `piece` bytes; remembers the ranges asked for."""

    daemon_threads = True
    content = CONTENT
    piece = len(CONTENT)
    knows_ranges = True
    index: bytes = b"{}"
    status = 0
    silence: threading.Event | None = None
    """Waited for after each piece, with the connection open."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.told: list[tuple[str, object]] = []
        self.is_silent = threading.Event()

    @property
    def source(self) -> Source:
        return Source(f"127.0.0.1:{self.server_address[1]}")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.told.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        self._send(self.server.status or 200, b"{}", 2)

    def do_GET(self) -> None:
        server = self.server
        if self.path.partition("?")[0] == "/edgeward/bundles":
            server.asked.append(self.path)
            self._send(200, server.index, len(server.index) + (server.silence is not None))
            return
        if server.status:
            self._send(server.status, b'{"error": "no"}', 15)
            return
        wanted = self.headers.get("range")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.knows_ranges else 0
        rest = server.content[start:]
        self._send(206 if start else 200, rest[: server.piece], len(rest))

    def _send(self, status: int, body: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("content-length", str(length))
        self.end_headers()
        self.wfile.write(body)
        if self.server.silence is not None:
            self.wfile.flush()
            self.server.is_silent.set()
            self.server.silence.wait(PATIENCE_S)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, offer: Offer = OFFER, max_bytes: int = 1 << 30) -> bytes:
    download(
        server.source, offer, folder / "a" / "x.part", folder / "b" / "x.tar", max_bytes, Interruption(), lambda _: None
    )
    assert not (folder / "a" / "x.part").exists()
    return (folder / "b" / "x.tar").read_bytes()


def test_a_broken_link_is_gone_on_with_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.piece = 300_000
    assert fetch(server, tmp_path) == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_an_earlier_run_left_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.part").write_bytes(CONTENT[:1_000_000])
    assert fetch(server, tmp_path) == CONTENT
    assert server.asked == ["bytes=1000000-"]
    assert fetch(server, tmp_path) == CONTENT
    assert len(server.asked) == 1


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path) == CONTENT


def test_other_bytes_than_the_index_says_are_refused_and_begun_anew(server: Server, tmp_path: Path) -> None:
    server.content = b"\0" * len(CONTENT)
    with pytest.raises(BundleError, match="the index says"):
        fetch(server, tmp_path)
    assert not (tmp_path / "b" / "x.tar").exists()
    server.content = CONTENT
    assert fetch(server, tmp_path) == CONTENT


def test_more_bytes_than_the_index_says_are_not_taken(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT * 2
    server.piece = len(server.content)
    with pytest.raises(BundleError, match="sends more than the 1024000 bytes"):
        fetch(server, tmp_path)


def test_over_the_cap_nothing_is_asked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLargeError, match="at most 1000: raise sync_max_bytes"):
        fetch(server, tmp_path, max_bytes=1000)
    assert server.asked == []


def test_a_link_that_brings_nothing_is_given_up_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.piece = 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.part").write_bytes(CONTENT[:1000])
    with pytest.raises(PeerUnreachableError, match="broke off after 1000 of"):
        fetch(server, tmp_path)
    assert len(server.asked) == 5
    assert (tmp_path / "a" / "x.part").stat().st_size == 1000


def test_errors_of_the_gateway_are_its_own(server: Server, tmp_path: Path) -> None:
    server.status = 401
    with pytest.raises(UnauthenticatedError):
        fetch(server, tmp_path)


def test_who_asks_is_said_and_what_became_of_versions_is_told(server: Server) -> None:
    server.index = b'{"bundles": []}'
    assert fetch_index(server.source, Interruption(), "camera 7", ["m", "n"]) == []
    assert fetch_index(server.source, Interruption()) == []
    assert server.asked == ["/edgeward/bundles?device=camera+7&model=m&model=n", "/edgeward/bundles"]
    outcome = {"model": "m", "version": 2, "outcome": "crashed", "reason": "twice"}
    for server.status in (0, 404, 400):  # a gateway that does not know the route, or the outcome, is told no more
        tell_outcomes(server.source, Interruption(), "camera 7", [outcome])
    for server.status, error in ((401, UnauthenticatedError), (503, EdgewardError), (500, EdgewardError)):
        with pytest.raises(error):
            tell_outcomes(server.source, Interruption(), "camera 7", [outcome])
    assert server.told == [("/edgeward/bundles/outcomes", {"device": "camera 7", "outcomes": [outcome]})] * 6


@pytest.mark.parametrize("index", [b"[]", b"{}", b'{"bundles": [{"model": "../x", "version": 1}]}'])
def test_what_is_no_index_is_said(index: bytes, server: Server) -> None:
    server.index = index
    with pytest.raises(PeerFailedError):
        fetch_index(server.source, Interruption())


@pytest.mark.parametrize("what", ["index", "bundle"])
def test_a_pass_that_waits_for_a_silent_link_is_cut_short_and_gone_on_with(
    server: Server, tmp_path: Path, what: str
) -> None:
    server.silence = threading.Event()
    server.piece = 300_000
    server.index = b" "
    interruption = Interruption()
    part, tar = tmp_path / "x.part", tmp_path / "x.tar"
    ended: list[Exception] = []

    def work() -> None:
        try:
            if what == "index":
                fetch_index(server.source, interruption)
            else:
                download(server.source, OFFER, part, tar, 1 << 30, interruption)
        except Exception as error:
            ended.append(error)

    pass_ = threading.Thread(target=work)
    pass_.start()
    assert server.is_silent.wait(PATIENCE_S)
    while what == "bundle" and not (part.exists() and part.stat().st_size):
        pass_.join(0.01)
    assert pass_.is_alive()
    interruption.set()
    pass_.join(PATIENCE_S / 3)  # far below the silence that it would wait for
    assert not pass_.is_alive()
    assert [type(error) for error in ended] == [CancelledError]
    server.silence.set()
    if what == "bundle":
        had = part.stat().st_size
        server.silence = None
        download(server.source, OFFER, part, tar, 1 << 30, Interruption())
        assert server.asked[1] == f"bytes={had}-"
        assert tar.read_bytes() == CONTENT
