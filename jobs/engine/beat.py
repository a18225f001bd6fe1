"""The beat: a thread that says every five seconds that this drainer's loop still turns.

A thread of its own, so that a busy loop does not look dead; gated on a tick of the loop, so that a
stuck one does.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import structlog

from jobs.engine import link

log = structlog.get_logger(__name__)

EVERY = 5.0  # Seconds between beats.
FRESH = 10.0  # Nothing is started after the last beat is older; less than look.STALE_SECONDS.
STUCK = 5.0  # A loop that has not ticked for so long gets no beat.
STEADY = 10.0  # Beating without a gap for so long, one may judge others' silence.

BEAT = """
update jobs_drainer set beat_at = clock_timestamp(), busy = %s where id = %s and dead_at is null
"""

# Counts on while a machine sleeps, where the system has such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds by a clock that never stops while the database's goes on."""
    return time.clock_gettime(_CLOCK)


def end_process(reason: str) -> None:
    """Leave at once: the supervisor starts a new process, others take over the work."""
    log.critical("drainer_ends", reason=reason)
    os._exit(os.EX_TEMPFAIL)


class Beat(threading.Thread):
    """Keeps one drainer's row alive. Finding the row dead, it ends the process."""

    def __init__(
        self,
        drainer: int,
        *,
        busy: Callable[[], int],
        on_death: Callable[[str], None] = end_process,
    ) -> None:
        super().__init__(name="drainer-beat", daemon=True)
        self._drainer = drainer
        self._busy = busy
        self._on_death = on_death
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        # Its row was inserted a moment ago, which is as good as a beat.
        self._beaten_at = self._steady_since = self._ticked_at = now()

    def tick(self) -> None:
        """The loop calls this every second."""
        self._ticked_at = now()

    @property
    def fresh(self) -> bool:
        """Whether work may be started: nobody can have declared this drainer dead yet."""
        return now() - self._beaten_at < FRESH

    @property
    def steady(self) -> bool:
        """Whether others had the chance to beat as well.

        After the database was away everybody's beat is old; whoever comes back first must not
        declare the others dead.
        """
        return self.fresh and now() - self._steady_since > STEADY

    def run(self) -> None:
        """Beat until stopped. A drainer without its beat may start nothing: it ends with it."""
        try:
            self._beat_on()
        except Exception as error:
            log.exception("beat_failed", drainer=self._drainer)
            if not self._stopping.is_set():
                self._on_death(f"its beat failed: {type(error).__name__}")

    def _beat_on(self) -> None:
        due_at = now() + EVERY
        while not self._stopping.wait(1.0):
            if now() < due_at:
                continue
            if now() - self._ticked_at > STUCK:
                log.error("loop_stuck", seconds=round(now() - self._ticked_at, 1))
                continue
            if self._beat():
                due_at = now() + EVERY
        self._close()

    def stop(self) -> None:
        """End the thread; does not wait for it."""
        self._stopping.set()

    def _beat(self) -> bool:
        began_at = now()
        try:
            if self._connection is None:
                self._connection = psycopg.connect(**link.parameters("beat"))
            row = self._connection.execute(BEAT, [self._busy(), self._drainer])
        except link.LOST as error:
            log.warning("beat_missed", error=str(error).strip()[:200])
            self._close()
            return False
        if row.rowcount == 0:
            if not self._stopping.is_set():
                self._on_death("its row in jobs_drainer is dead or gone")
            return True
        if began_at - self._beaten_at > FRESH:
            self._steady_since = began_at
        self._beaten_at = began_at
        return True

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
