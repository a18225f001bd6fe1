"""Retry policies: data, with clock and randomness passed in."""

import pytest

from jobs.retry import RetryPolicy, Schedule

BACKOFF = RetryPolicy(attempts=5, base=2.0, cap=10.0, window=60.0)
PROMISED = Schedule(delays=(5.0, 300.0, 1800.0))


def test_the_ceiling_doubles_up_to_the_cap():
    ceilings = [BACKOFF.delay(n, random=lambda: 1.0) for n in range(1, 6)]
    assert ceilings == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_jitter_is_full():
    assert BACKOFF.delay(3, random=lambda: 0.0) == 0.0
    assert BACKOFF.delay(3, random=lambda: 0.5) == 4.0


def test_the_ten_thousandth_try_overflows_nothing():
    assert BACKOFF.delay(10_000, random=lambda: 1.0) == 10.0


@pytest.mark.parametrize(("said", "waits"), [(30, 30), (-5, 0), (10**9, 86400), (None, 0)])
def test_a_retry_after_is_a_floor_cut_to_a_day(said, waits):
    assert BACKOFF.delay(1, random=lambda: 0.0, retry_after=said) == waits


def test_it_ends_with_the_attempts_or_the_window():
    assert BACKOFF.allows(4, age=0)
    assert not BACKOFF.allows(5, age=0)
    assert not BACKOFF.allows(1, age=60.0)


def test_a_schedule_keeps_its_promises_within_its_jitter():
    assert PROMISED.attempts == 4
    assert [PROMISED.delay(n, random=lambda: 0.5) for n in (1, 2, 3)] == [5.0, 300.0, 1800.0]
    assert PROMISED.delay(2, random=lambda: 0.0) == 270.0
    assert PROMISED.allows(3, age=10**9)
    assert not PROMISED.allows(4, age=0)


def test_a_schedule_without_retries_allows_none_and_breaks_nothing():
    once = Schedule(delays=())
    assert (once.attempts, once.allows(1, age=0)) == (1, False)
    assert once.delay(1, random=lambda: 0.5, retry_after=7) == 7
