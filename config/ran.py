"""When each periodic task last came to a good end: workers say so in Redis, the doctor reads it."""

import contextlib
import time
from typing import Any

import redis
from celery import Task

from config.redis import client

KEY = "slipway:ran"
SINCE = "since"  # When the first task ran that anybody remembers.


class Told(Task):  # type: ignore[type-arg]
    """A task that says when it ran."""

    abstract = True

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Celery calls it after each good end. Nobody waits for it in vain: it is only told."""
        with contextlib.suppress(redis.RedisError, OSError):
            now = str(time.time())
            client(timeout=1.0).hset(KEY, self.name, now)
            client(timeout=1.0).hsetnx(KEY, SINCE, now)


def when() -> dict[str, float]:
    """Task → Unix seconds, and SINCE. Raises redis.RedisError."""
    found: dict[bytes, bytes] = client(timeout=2.0).hgetall(KEY)  # type: ignore[assignment]
    return {name.decode(): float(at) for name, at in found.items()}


def redis_started_at() -> float:
    """Since when Redis could be told anything, in Unix seconds. Raises redis.RedisError."""
    asked = client(timeout=2.0)
    uptime = asked.info("server")["uptime_in_seconds"]
    return float(asked.time()[0]) - float(uptime)
