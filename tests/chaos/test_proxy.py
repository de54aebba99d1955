"""The chaos proxy does what it says: everything arrives, later, in pieces, or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.hybrid.proxy import ChaosProxy, Link

PATIENCE_S = 20.0


@asynccontextmanager
async def echo(link: Link = Link(), **more: object) -> AsyncIterator[ChaosProxy]:  # noqa: B008  (frozen)
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with ChaosProxy("127.0.0.1", port, link, **more) as proxy:  # type: ignore[arg-type]
        yield proxy
    server.close()


async def ask(proxy: ChaosProxy, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.readexactly(len(sent)), PATIENCE_S)
    finally:
        writer.close()


BIG = bytes(range(256)) * 400


@pytest.mark.parametrize(
    "link", [Link(), Link(latency_s=0.05, jitter_s=0.02), Link(piece_bytes=700), Link(bytes_per_s=2_000_000)]
)
async def test_every_byte_arrives_in_order(link: Link) -> None:
    async with echo(link) as proxy:
        assert await ask(proxy, BIG) == BIG
        assert proxy.bytes_up == len(BIG)


async def test_latency_and_bandwidth_take_at_least_their_time() -> None:
    for link, at_least_s in ((Link(latency_s=0.2), 0.2), (Link(bytes_per_s=500_000), len(BIG) / 500_000)):
        async with echo(link) as proxy:
            started = time.monotonic()
            await ask(proxy, BIG)
            assert time.monotonic() - started >= at_least_s * 0.99


async def test_a_black_hole_keeps_what_it_got_until_it_heals() -> None:
    async with echo(Link(is_blackhole=True)) as proxy:
        asked = asyncio.create_task(ask(proxy, b"lost?"))
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        proxy.link = Link()
        assert await asked == b"lost?"


async def test_resets_and_refusals_are_connection_errors() -> None:
    async with echo() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        proxy.reset()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        writer.close()
        proxy.link = Link(is_refusing=True)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask(proxy, b"x")


async def test_it_shows_what_passes() -> None:
    seen: list[bytes] = []
    async with echo(look=seen.append) as proxy:
        await ask(proxy, b"watched")
    assert b"".join(seen) == b"watched"
