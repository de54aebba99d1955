"""Messages on a stream of bytes: the same however they are cut, and what is kept of them is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import EdgewardError, InvalidInputError, OverloadedError, PayloadTooLargeError
from runtime.serving.grpc.messages import Message, MessageReader, prefix_of
from runtime.serving.reading import Reading

MAX = 20_000
SIZES = st.sampled_from([0, 1, 4, 5, 4095, 4096, 4097, 9000, MAX])


def packed(message: Message) -> bytes:
    return bytes((message.is_packed,)) + len(message.raw).to_bytes(4, "big") + message.raw


def message_of(size: int, is_packed: bool, fill: int) -> Message:
    return Message(bytes((fill + at) % 256 for at in range(size)), is_packed)


@given(
    messages=st.lists(st.builds(message_of, SIZES, st.booleans(), st.integers(0, 255)), max_size=5),
    cuts=st.lists(st.integers(0, 1 << 17), max_size=30),
    are_views=st.booleans(),
)
def test_cut_anywhere_they_are_the_same_messages(messages: list[Message], cuts: list[int], are_views: bool) -> None:
    raw = b"".join(map(packed, messages))
    ends = sorted({cut % (len(raw) + 1) for cut in cuts} | {len(raw)})
    reading = Reading()
    reader = MessageReader(MAX, reading)
    found: list[Message] = []
    for start, end in zip([0, *ends], ends, strict=False):
        chunk = memoryview(bytes(bytearray(raw)))[start:end] if are_views else raw[start:end]
        found.extend(reader.feed(chunk))
        under_way = end - sum(len(packed(message)) for message in found)
        assert reader.is_between == (under_way == 0)
        # What is here of a message, and nothing of those that are whole; of views what they keep.
        assert 0 <= reading.held_bytes - max(0, under_way - 5) <= (len(raw) if are_views and under_way else 0)
    assert found == messages
    assert all(type(message.raw) is bytes for message in found)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\x02\0\0\0\0", InvalidInputError),
        (b"\x00\xff\xff\xff\xff", PayloadTooLargeError),
        (b"\x00\0\0\x4e\x21", PayloadTooLargeError),
    ],
)
def test_a_prefix_that_is_none_is_refused_before_anything_is_kept(raw: bytes, kind: type[EdgewardError]) -> None:
    for cut in range(5):
        reading = Reading()
        reader = MessageReader(MAX, reading)
        assert not list(reader.feed(raw[:cut]))
        with pytest.raises(kind):
            list(reader.feed(raw[cut:] + b"and more"))
        assert reading.held_bytes == 0


def test_messages_before_one_that_is_refused_are_there() -> None:
    found: list[Message] = []
    with pytest.raises(InvalidInputError):
        found.extend(MessageReader(MAX, Reading()).feed(prefix_of(1) + b"a" + b"\x07\0\0\0\0"))
    assert found == [Message(b"a", is_packed=False)]


def test_half_messages_of_all_calls_together_are_bounded() -> None:
    reading = Reading(2500)
    readers = [MessageReader(MAX, reading) for _ in range(3)]
    for reader in readers[:2]:
        assert not list(reader.feed(prefix_of(2000) + bytes(1000)))
    with pytest.raises(OverloadedError, match="hold 2000 bytes"):
        list(readers[2].feed(prefix_of(2000) + bytes(1000)))
    readers[0].drop()
    readers[0].drop()
    assert reading.held_bytes == 1000
    assert [message.raw for message in readers[1].feed(bytes(1000))] == [bytes(2000)]
    assert reading.held_bytes == 0


def test_a_whole_message_is_never_refused_for_what_others_hold() -> None:
    reading = Reading(10)
    reading.take(10)
    assert [message.raw for message in MessageReader(MAX, reading).feed(prefix_of(100) + bytes(100))] == [bytes(100)]


def test_a_small_part_does_not_keep_the_large_read_that_it_came_in() -> None:
    """Otherwise a client that sends 4 KiB of a message with each 256 KiB of something else has 64 times kept what is counted."""
    reader = MessageReader(1 << 20, Reading())
    read = bytes(1 << 18)
    assert not list(reader.feed(prefix_of(1 << 20)))
    assert not list(reader.feed(memoryview(read)[:4096]))
    assert not any(isinstance(part, memoryview) for part in reader._parts)
    assert not list(reader.feed(memoryview(read)[: 1 << 17]))
    assert isinstance(reader._parts[-1], memoryview)


def test_what_a_view_keeps_is_counted_until_something_else_comes() -> None:
    reading = Reading()
    reader = MessageReader(1 << 20, reading)
    assert not list(reader.feed(prefix_of(200_000)))
    read = bytes(range(250)) * 1000
    for at in range(3):  # it may be that all of it is this message's
        assert not list(reader.feed(memoryview(read)[at * 20_000 : (at + 1) * 20_000]))
        assert reading.held_bytes == len(read)
    assert not list(reader.feed(b"x"))
    assert reading.held_bytes == 60_001
    assert not any(isinstance(part, memoryview) for part in reader._parts), "it was not, and is no longer kept"
    (message,) = reader.feed(memoryview(bytes(139_999)))
    assert message.raw == read[:60_000] + b"x" + bytes(139_999)
    assert reading.held_bytes == 0
