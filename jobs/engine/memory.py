"""The highest lease that was ever seen committed: kept by this process, and by Redis for all.

The database has it too, in the rows of its drainers. Only one that went back in time has a lower
one (jobs.engine.gate). A claim never waits for Redis: a thread writes what it came to.
"""

import threading
import time
from uuid import UUID

import redis
import structlog

from config.redis import client

log = structlog.get_logger(__name__)

KEY = "slipway:lease:{lineage}"
TIMEOUT = 1.0  # Seconds for one command.
PAUSE = 5.0  # Seconds in which nothing is tried after a failure.
GAP = 0.02  # Seconds between two writes.
# The highest stays, whoever writes last.
RAISE = """
local kept = tonumber(redis.call('get', KEYS[1]) or '0')
if tonumber(ARGV[1]) > kept then redis.call('set', KEYS[1], ARGV[1]) end
return math.max(kept, tonumber(ARGV[1]))
"""
UNREACHABLE = (redis.RedisError, OSError, ValueError)


class Memory:
    """What one process remembers. `lineage` is set once the database has told it."""

    def __init__(self) -> None:
        self.own = 0
        self.lineage: UUID | None = None
        self._told = 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, lease: int) -> None:
        """A claim under this lease was committed. Returns at once, whatever Redis does."""
        if lease <= self.own:
            return
        self.own = lease
        if self._thread is None:
            self._thread = threading.Thread(target=self._tell, name="leases", daemon=True)
            self._thread.start()
        self._wake.set()

    def recall(self) -> int:
        """The highest lease that anyone remembers: without Redis, this process alone."""
        return max(self.own, 0 if self.lineage is None else recalled(self.lineage))

    def _tell(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self.lineage is None or self._told >= self.own:
                continue
            lease = self.own
            try:
                client(timeout=TIMEOUT).eval(RAISE, 1, KEY.format(lineage=self.lineage), lease)
                self._told = lease
                time.sleep(GAP)
            except UNREACHABLE as error:
                log.info("lease_not_told", error=str(error)[:200])
                time.sleep(PAUSE)
                self._wake.set()


def recalled(lineage: UUID) -> int:
    """The highest lease that Redis remembers of a database; 0 when it knows of none, or is away."""
    try:
        return int(client(timeout=TIMEOUT).get(KEY.format(lineage=lineage)) or 0)
    except UNREACHABLE as error:
        log.info("lease_not_recalled", error=str(error)[:200])
        return 0
