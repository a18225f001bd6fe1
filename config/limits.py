"""How often a caller may do a thing: counted in Redis, or in this process while Redis is away.

A window begins with the first thing counted in it. Several limits are asked in one round trip, and
count all or none. `give_back` takes a count back, for what turns out not to be counted.

A large limit is drawn from Redis in portions: asking for each call was a quarter of what a sign-up
cost. A portion is one at first and doubles while it is used up within PORTION_SECONDS; what is left
of it then is lost: a caller is never let through too often, and by a share of a percent too seldom.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import redis
import structlog
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from redis.commands.core import Script
from rest_framework.request import Request

from config import redis as shared_redis
from config.problems import API_PATH, RateLimited, problem_response
from config.proxies import client_address

ANONYMOUS = "anonymous"  # The limit of who calls without a key, where no other is named.
REDIS_TIMEOUT = 0.25  # Seconds that a request waits for Redis, once.
REDIS_PAUSE = 10.0  # Seconds that Redis is left alone after an error.
LOCAL_SIZE = 50_000  # Counts that a process keeps of its own.
PORTIONS = 200  # A portion is at most this part of a limit; smaller limits are drawn one by one.
PORTION_SECONDS = 1.0

_log = structlog.get_logger(__name__)

# KEYS: counters. ARGV: a limit, a window in milliseconds, how many to count at least and at most,
# for each. The first line of the answer says which counter is full (0: none); then come count,
# milliseconds left and how many were counted, for each.
_TAKE = """
local full = 0
for i, key in ipairs(KEYS) do
  local count = tonumber(redis.call('GET', key) or '0')
  if full == 0 and count + tonumber(ARGV[4 * i - 1]) > tonumber(ARGV[4 * i - 3]) then full = i end
end
local seen = {full}
for i, key in ipairs(KEYS) do
  local count, drawn = tonumber(redis.call('GET', key) or '0'), 0
  if full == 0 then
    drawn = math.min(tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i - 3]) - count)
    count = redis.call('INCRBY', key, drawn)
    if count == drawn then redis.call('PEXPIRE', key, ARGV[4 * i - 2]) end
  end
  table.insert(seen, count)
  table.insert(seen, redis.call('PTTL', key))
  table.insert(seen, drawn)
end
return seen
"""
_GIVE_BACK = """
for i, key in ipairs(KEYS) do
  local count = tonumber(redis.call('GET', key) or '0')
  if count > 0 then redis.call('DECRBY', key, math.min(count, tonumber(ARGV[i]))) end
end
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` in `seconds`."""

    name: str
    amount: int
    seconds: int

    @classmethod
    def named(cls, name: str) -> "Limit":
        """The limit that settings.SLIPWAY["LIMITS"] gives as (amount, seconds)."""
        amount, seconds = settings.SLIPWAY["LIMITS"][name]
        return cls(name, amount, seconds)

    def of(self, key: str, *, many: int = 1) -> "Counter":
        """This limit for one client, key, network or whatever is counted apart.

        `many` is how much one request counts.
        """
        return Counter(self, f"slipway:limit:{self.name}:{key}", many)


class Counter(NamedTuple):
    """A limit and what it counts."""

    limit: Limit
    key: str
    many: int = 1


class Seen(NamedTuple):
    """What stands in a counter, and for how many seconds yet."""

    used: int
    seconds: float


def take(request: Request | HttpRequest, *counters: Counter) -> None:
    """Count this request in every counter.

    The answer's RateLimit headers will tell the first counter: the caller's own.
    Raises RateLimited, and counts nothing, when one of them is full.
    """
    full, seen = _portions.take(counters) or _ask_redis(counters) or _ask_here(counters)
    underlying: Any = getattr(request, "_request", request)
    underlying.rate_limit = headers(counters[full or 0].limit, seen[full or 0])
    underlying.rate_counters = counters if full is None else ()
    if full is not None:
        wait = max(1, round(seen[full].seconds + 0.5))
        raise RateLimited(headers={**underlying.rate_limit, "Retry-After": str(wait)})


def take_for_address(request: Request | HttpRequest, name: str) -> None:
    """Count this request in a limit of settings.SLIPWAY, by its client. Raises RateLimited."""
    underlying: HttpRequest = getattr(request, "_request", request)
    take(request, Limit.named(name).of(client_address(underlying)))


def give_back(request: Request | HttpRequest) -> None:
    """Uncount what `take` counted for this request."""
    underlying: Any = getattr(request, "_request", request)
    counters: tuple[Counter, ...] = getattr(underlying, "rate_counters", ())
    _here.give_back(counters)
    if counters and not _away.now():
        try:
            keys = [counter.key for counter in counters]
            counts = [counter.many for counter in counters]
            shared_redis.client(timeout=REDIS_TIMEOUT).eval(_GIVE_BACK, len(keys), *keys, *counts)
        except redis.RedisError as error:
            _away.note(error)


def headers(limit: Limit, seen: Seen) -> dict[str, str]:
    """The headers of draft-ietf-httpapi-ratelimit-headers-10."""
    left = max(0, limit.amount - seen.used)
    return {
        "RateLimit-Policy": f'"{limit.name}";q={limit.amount};w={limit.seconds}',
        "RateLimit": f'"{limit.name}";r={left};t={max(0, round(seen.seconds))}',
    }


class LimitMiddleware:
    """Tells every caller of the API where it stands, whatever the answer.

    Views count their callers before they do anything for them. What ends before that (an unknown
    host or route, a key that is none, a sign-up that says no domain to count by) is counted here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.path.startswith(API_PATH):
            if not hasattr(request, "rate_limit"):
                try:
                    take_for_address(request, ANONYMOUS)
                except RateLimited as problem:
                    response = problem_response(problem, request)
            for name, value in request.rate_limit.items():  # type: ignore[attr-defined]
                response.headers.setdefault(name, value)
        return response


Answer = tuple[int | None, list[Seen]]  # The counter that is full, if one is; what stands in each.


def _ask_redis(counters: tuple[Counter, ...]) -> Answer | None:
    """None when Redis is away."""
    if _away.now():
        return None
    keys = [counter.key for counter in counters]
    # Several are counted together or not at all, and so without portions.
    in_portions = _in_portions(counters)
    numbers: list[int] = []
    for limit, _, many in counters:
        most = _portions.size(counters[0]) if in_portions else many
        numbers += limit.amount, limit.seconds * 1000, many, most
    try:
        full, *rest = _script()(keys=keys, args=numbers)
    except redis.RedisError as error:
        _away.note(error)
        return None
    seen = [Seen(n, max(0, ms) / 1000) for n, ms in zip(rest[::3], rest[1::3], strict=True)]
    if in_portions and not full:
        seen = [_portions.keep(counters[0], seen[0], drawn=rest[2])]
    return (full - 1 if full else None), seen


def _in_portions(counters: tuple[Counter, ...]) -> bool:
    return len(counters) == 1 and counters[0].many == 1


def _ask_here(counters: tuple[Counter, ...]) -> Answer:
    return _here.take(counters, now=time.monotonic())


@cache
def _script() -> Script:
    """EVALSHA, and the text only when Redis has forgotten it."""
    return shared_redis.client(timeout=REDIS_TIMEOUT).register_script(_TAKE)


class _Away:
    """Whether Redis failed a moment ago, so that not every request waits for it again."""

    def __init__(self) -> None:
        self._until = 0.0

    def now(self) -> bool:
        return time.monotonic() < self._until

    def note(self, error: Exception) -> None:
        self._until = time.monotonic() + REDIS_PAUSE
        _log.warning("Redis is away; limits are kept in this process", error=type(error).__name__)


@dataclass(slots=True)
class _Portion:
    """What was drawn from Redis and is not used up; times are by time.monotonic()."""

    size: int
    left: int
    count: int  # In Redis, when it was drawn.
    window_ends: float
    until: float


class _Portions:
    """The portions that this process may still let through without asking."""

    def __init__(self) -> None:
        self._held: dict[str, _Portion] = {}
        self._lock = Lock()

    def take(self, counters: tuple[Counter, ...]) -> Answer | None:
        """Let one through; None when Redis is to be asked."""
        now = time.monotonic()
        with self._lock:
            held = self._held.get(counters[0].key) if _in_portions(counters) else None
            if held is None or held.left == 0 or now >= held.until:
                return None
            held.left -= 1
            return None, [Seen(held.count - held.left, held.window_ends - now)]

    def size(self, counter: Counter) -> int:
        """How many to draw next: more while portions are used up in time."""
        most = counter.limit.amount // PORTIONS
        with self._lock:
            held = self._held.get(counter.key)
            in_time = held is not None and held.left == 0 and time.monotonic() < held.until
            return max(1, min(most, held.size * 2)) if held is not None and in_time else 1

    def keep(self, counter: Counter, seen: Seen, *, drawn: int) -> Seen:
        """Keep what was drawn but for the one that is let through now; what that one is told."""
        if counter.limit.amount < PORTIONS * 2:
            return seen
        now = time.monotonic()
        with self._lock:
            if len(self._held) >= LOCAL_SIZE:
                self._held.clear()
            held = self._held.get(counter.key)
            # Another thread may have drawn meanwhile.
            spare = held.left if held is not None and now < held.until else 0
            left, end = spare + drawn - 1, now + seen.seconds
            until = min(now + PORTION_SECONDS, end)
            self._held[counter.key] = _Portion(drawn, left, seen.used, end, until)
        return Seen(seen.used - left, seen.seconds)


class _Here:
    """The counters of this process: (count, when the window ends)."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    def take(self, counters: tuple[Counter, ...], *, now: float) -> Answer:
        with self._lock:
            self._make_room(now)
            standing = [self._standing(counter, now) for counter in counters]
            full = next(
                (
                    i
                    for i, ((n, _), counter) in enumerate(zip(standing, counters, strict=True))
                    if n + counter.many > counter.limit.amount
                ),
                None,
            )
            if full is None:
                standing = [
                    (count + counter.many, end)
                    for (count, end), counter in zip(standing, counters, strict=True)
                ]
                self._counts.update(zip([c.key for c in counters], standing, strict=True))
        return full, [Seen(count, end - now) for count, end in standing]

    def give_back(self, counters: tuple[Counter, ...]) -> None:
        with self._lock:
            for _, key, many in counters:
                if key in self._counts:
                    count, end = self._counts[key]
                    self._counts[key] = (max(0, count - many), end)

    def _standing(self, counter: Counter, now: float) -> tuple[int, float]:
        count, end = self._counts.get(counter.key, (0, 0.0))
        return (count, end) if end > now else (0, now + counter.limit.seconds)

    def _make_room(self, now: float) -> None:
        """Forget windows that have ended, and all of them before the memory has no bounds."""
        if len(self._counts) >= LOCAL_SIZE:
            self._counts = {k: v for k, v in self._counts.items() if v[1] > now}
            if len(self._counts) >= LOCAL_SIZE:
                self._counts.clear()


_away = _Away()
_portions = _Portions()
_here = _Here()
