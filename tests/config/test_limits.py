"""Limits count in Redis, in the process while Redis is away, and can be given back."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import RequestFactory

from config import limits
from config.limits import Limit
from config.problems import RateLimited


@pytest.fixture(autouse=True)
def redis_is_asked(monkeypatch):
    """What one test learned about Redis' absence is no matter of the next."""
    monkeypatch.setattr(limits, "_away", limits._Away())
    monkeypatch.setattr(limits, "_here", limits._Here())


def take(*counters):
    request = RequestFactory().get("/")
    limits.take(request, *counters)
    return request


def refused(*counters) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        take(*counters)
    return caught.value


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


@pytest.fixture(params=["redis", "process"])
def place(request, monkeypatch):
    """Each promise holds with Redis there and with Redis away."""
    if request.param == "process":
        monkeypatch.setattr(limits, "_ask_redis", lambda counters: None)
    return request.param


def test_it_lets_so_many_through_and_not_one_more(place, key):
    three = Limit("three", 3, 60).of(key)
    for left in (2, 1, 0):
        assert take(three).rate_limit["RateLimit"].startswith(f'"three";r={left};t=')
    problem = refused(three)
    assert problem.status == 429
    assert 1 <= int(problem.headers["Retry-After"]) <= 61
    assert problem.headers["RateLimit-Policy"] == '"three";q=3;w=60'


def test_a_request_may_count_for_many_and_counts_whole_or_not_at_all(place, key):
    ten = Limit("ten", 10, 60)
    assert take(ten.of(key, many=7)).rate_limit["RateLimit"].startswith('"ten";r=3;')
    refused(ten.of(key, many=4))
    request = take(ten.of(key, many=3))
    refused(ten.of(key))
    limits.give_back(request)
    take(ten.of(key, many=3))


def test_who_is_counted_apart_is_limited_apart(place, key):
    one = Limit("one", 1, 60)
    take(one.of(key + "a"))
    take(one.of(key + "b"))
    refused(one.of(key + "a"))


def test_the_window_ends(place, key):
    short = Limit("short", 1, 1).of(key)
    take(short)
    refused(short)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            take(short)
            return
        except RateLimited:
            time.sleep(0.05)
    pytest.fail("The window of one second did not end in five.")


def test_several_limits_count_all_or_none(place, key):
    wide, narrow = Limit("wide", 5, 60).of(key), Limit("narrow", 1, 60).of(key)
    take(wide, narrow)
    for _ in range(3):
        refused(wide, narrow)
    assert take(wide).rate_limit["RateLimit"].startswith('"wide";r=3;')


def test_what_is_given_back_was_not_counted(place, key):
    one = Limit("one", 1, 60).of(key)
    for _ in range(3):
        limits.give_back(take(one))
    take(one)
    refused(one)


def test_a_crowd_gets_exactly_what_the_limit_says(place, key):
    ten = Limit("ten", 10, 60).of(key)

    def passes(_) -> bool:
        try:
            take(ten)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(passes, range(50))) == 10


def test_redis_away_costs_one_short_wait_and_the_limit_holds_on(valkey, key):
    two = Limit("two", 2, 60).of(key)
    take(two)
    valkey.stop()
    started = time.monotonic()
    take(two)
    take(two)
    refused(two)  # This process counts from nothing, and still to two.
    assert time.monotonic() - started < 1.0


def test_redis_is_asked_again_after_a_pause(valkey, key, monkeypatch):
    monkeypatch.setattr(limits, "REDIS_PAUSE", 0.0)
    one = Limit("one", 1, 60).of(key)
    valkey.stop()
    take(one)
    valkey.start()
    take(one)  # Redis knows nothing of it, and is what counts again.
    refused(one)


def test_the_process_keeps_a_bounded_number_of_counters(monkeypatch, key):
    monkeypatch.setattr(limits, "_ask_redis", lambda counters: None)
    monkeypatch.setattr(limits, "LOCAL_SIZE", 100)
    for number in range(1000):
        take(Limit("many", 1, 60).of(f"{key}{number}"))
    assert len(limits._here._counts) <= 100


def test_nothing_is_told_that_was_not_counted():
    request = RequestFactory().get("/")
    limits.give_back(request)
    assert not hasattr(request, "rate_limit")


def test_a_large_limit_is_drawn_in_portions_and_never_exceeded(key, monkeypatch):
    asked = []
    ask = limits._ask_redis
    monkeypatch.setattr(limits, "_ask_redis", lambda counters: asked.append(1) or ask(counters))
    large = Limit("large", 2000, 60).of(key)
    for n in range(2000):
        assert take(large).rate_limit["RateLimit"].startswith(f'"large";r={1999 - n};')
    refused(large)
    assert len(asked) < 2000 / 4


def test_a_crowd_gets_no_more_than_a_large_limit(key):
    large = Limit("large", 1000, 60).of(key)

    def passes(_) -> bool:
        try:
            take(large)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        passed = sum(pool.map(passes, range(1500)))
    assert 950 <= passed <= 1000


def test_who_calls_seldom_loses_nothing_to_portions(key, monkeypatch):
    monkeypatch.setattr(limits, "PORTION_SECONDS", 0.0)
    large = Limit("large", 1000, 60).of(key)
    for n in range(50):
        assert take(large).rate_limit["RateLimit"].startswith(f'"large";r={999 - n};')
