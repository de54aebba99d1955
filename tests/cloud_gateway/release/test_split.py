"""Who gets which version: the share that was asked for, the same for the same key, and nobody back to stable while it grows."""

import hashlib

from cloud_gateway.guards import Arm
from cloud_gateway.release.split import (
    MAX_SEGMENTS,
    OTHER_SEGMENT,
    Segments,
    Split,
    arm_at,
    name_of,
    place,
    random_place,
)

SALT = b"digits/1"


def split(share: float) -> Split:
    return Split(1, "digits", 1, 2, share, SALT, "routing_key")


def share_of_candidate(share: float, places: list[int]) -> float:
    return sum(split(share).arm(where) is Arm.CANDIDATE for where in places) / len(places)


def test_keys_fall_evenly() -> None:
    places = [place(SALT, f"user-{number}") for number in range(20_000)]
    for share in (0.01, 0.1, 0.5, 0.9):
        # Four standard deviations of 20,000 draws.
        assert abs(share_of_candidate(share, places) - share) < 4 * (share * (1 - share) / 20_000) ** 0.5
    assert abs(share_of_candidate(0.3, [random_place() for _ in range(20_000)]) - 0.3) < 0.013


def test_a_key_falls_where_it_fell_in_earlier_builds() -> None:
    for salt in (SALT, b"digits/2", SALT):
        for key in ("user-7", "", "\ud800"):
            expected = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).digest()
            assert place(salt, key) == int.from_bytes(expected, "big")


def test_all_and_nothing_are_exact() -> None:
    places = [0, 2**64 - 1, *(place(SALT, str(number)) for number in range(5000))]
    assert share_of_candidate(0.0, places) == 0.0
    assert share_of_candidate(1.0, places) == 1.0


def test_whoever_has_the_candidate_keeps_it_while_it_grows() -> None:
    keys = [place(SALT, f"user-{number}") for number in range(2000)]
    had: set[int] = set()
    for share in (0.01, 0.05, 0.1, 0.25, 0.5, 1.0):
        has = {where for where in keys if split(share).arm(where) is Arm.CANDIDATE}
        assert had <= has
        had = has
    assert place(SALT, "user-1") == place(SALT, "user-1")


def test_another_release_puts_others_first_and_keys_cannot_be_read() -> None:
    first = {n for n in range(2000) if arm_at(place(b"a", str(n)), 0.1) is Arm.CANDIDATE}
    second = {n for n in range(2000) if arm_at(place(b"b", str(n)), 0.1) is Arm.CANDIDATE}
    assert len(first & second) < len(first) / 2
    assert "user" not in name_of(place(SALT, "user-1"))
    place(SALT, "\udcff")  # what JSON may name has no UTF-8


def test_segments_are_few() -> None:
    segments = Segments()
    assert segments.of(None) == ""
    assert segments.of("de") == "de"
    names = {segments.of(number) for number in range(1000)}
    assert len(names) == MAX_SEGMENTS
    assert OTHER_SEGMENT in names
    assert segments.of("de") == "de"
