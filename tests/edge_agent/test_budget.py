"""Budgets for extra work."""

from edge_agent.budget import TokenBucket


def spent(bucket: TokenBucket, requests: int) -> int:
    taken = 0
    for _ in range(requests):
        bucket.note_request()
        taken += bucket.take()
    return taken


def test_it_gives_a_share_of_the_requests_and_one_to_begin_with() -> None:
    assert 49 <= spent(TokenBucket(0.05), 1000) <= 51
    assert 199 <= spent(TokenBucket(0.2), 1000) <= 201
    assert spent(TokenBucket(0.0), 1000) == 0
    assert TokenBucket(0.05).take()


def test_a_quiet_time_does_not_save_up_for_a_storm() -> None:
    bucket = TokenBucket(0.05, burst=3.0)
    for _ in range(10_000):
        bucket.note_request()
    assert bucket.tokens == 3.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
