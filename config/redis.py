"""The connections to Redis (or Valkey), which may be away at any time: losing it loses nothing."""

from functools import cache
from urllib.parse import urlsplit

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry


@cache
def client(*, timeout: float = 5.0) -> "redis.Redis":
    """The process's client, made once for each time-out (in seconds).

    Takes bytes, gives bytes. A caller on a request's path says a short time-out, catches
    redis.RedisError and goes on without.
    """
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 2.0),
        health_check_interval=10,
        # Once more, at once: for the first command after Redis was started again. By default it
        # would be tried for seconds.
        retry=Retry(NoBackoff(), 1),
    )


def broker_url(url: str) -> str:
    """The address as Celery's transport spells it: a Unix socket is `redis+socket://`."""
    parts = urlsplit(url)
    return f"redis+socket://{parts.path}" if parts.scheme == "unix" else url
