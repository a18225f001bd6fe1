"""One queue as its drainer knows it: what is in progress there, and when to claim from it next.

Claims that find nothing have a price: two thousand lanes that are all paused cost tens of
milliseconds to look through, and hints may come by the hundred. So a drainer rests after such a
round in proportion to what it cost; lanes that can be served cost no rest.

A look that finds something new ends the rest. A lane that was opened, or a work that is done
again, is nothing new to a look: there is but the hint, and so a hint ends a rest too, one in each
time that the rest would have taken. A flood of them doubles the rounds, and no more.

A hint that names a tenant who has next to nothing in progress is answered with a claim for that one
alone: it costs the same whatever others have waiting. Whoever has more waits for its turn in the
round, and so does who was named and had nothing to claim.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from jobs.engine.claim import Cursor, Taken, claim
from jobs.engine.rooms import Place, Rooms, place_of
from jobs.outcomes import Outcome
from jobs.registry import Queue
from jobs.steps import Claim

CLAIM_GAP = 0.02  # Seconds between two claims of a queue that has few slots free.
HINTED_GAP = 0.005  # Seconds between two claims of a paced queue that has something new.
PORTION = 100  # Works: a claim costs as much as some fifty of them, and smaller ones do not pay.
CHEAP = 0.02  # Seconds of fruitless claims in one round that need no rest.
# How many times the seconds of its fruitless claims a round is followed by rest: after a round that
# found something, after one that did not, and while nobody says that there is anything new.
REST_AFTER_SUCCESS, REST, REST_UNASKED = 1, 9, 99
LONGEST_REST = 5.0  # Seconds.
FEW = 4  # Works of a tenant's in progress, below which it need not wait for the round;
BARREN = 0.5  # but for so many seconds after a claim for it that found nothing.
MOST_BARREN = 1000  # Tenants that are remembered for it.
INTRODUCTION = 1.5  # Seconds in which the others hear of a new drainer: longer than a poll.
NEWS_REST = 0.05  # Seconds, once there is something new; or as long as the round took.


@dataclass
class Serving:
    """A drainer's side of one queue."""

    queue: Queue
    cursor: Cursor = field(default_factory=Cursor)
    busy: int = 0
    undoing: int = 0  # Of the busy ones.
    under_way: Counter[str] = field(default_factory=Counter)  # The busy ones, by destination,
    of_tenants: Counter[int] = field(default_factory=Counter)  # and by tenant.
    named: set[int] = field(default_factory=set)  # Tenants to claim for before the next round.
    barren: dict[int, float] = field(default_factory=dict)  # Until when not to, by tenant.
    whole: bool = False  # A round is due.
    claimed_at: float = 0.0  # By time.monotonic(), as the next two.
    rests_until: float = 0.0
    unasked_until: float = 0.0  # Nothing is claimed before, unless there is something new.
    newest: UUID | None = None  # The queue's last work at the last look.
    wakes_at: float = 0.0  # The end of the rest, should there be something new.
    hinted: bool = False  # Since its last round began.
    spared_until: float = 0.0  # Before, no hint alone ends a rest.
    timer: asyncio.TimerHandle | None = None  # It is to be claimed from then.
    starved: bool = False  # It wanted to claim, and had no slot free.
    rooms: Rooms | None = None  # In paced queues.
    ended: set[Place | None] = field(default_factory=set)  # Where works ended in this turn.
    known_at: float = 0.0  # By then the other drainers leave this one its share of a pace.

    def __post_init__(self) -> None:
        if self.queue.pace is not None:
            self.rooms = Rooms(self.queue)

    def enter(self, most: int) -> None:
        """Begin, as a drainer that nobody knows yet; `most` is the last tenant's id."""
        # Drainers begin at different tenants, and so seldom wait for the same lock.
        self.cursor.tenant = random.randint(0, most)  # noqa: S311
        self.known_at = time.monotonic() + INTRODUCTION

    @property
    def free(self) -> int:
        """How many works may be started."""
        return self.queue.slots - self.busy

    @property
    def portion(self) -> int:
        """How many works to claim at once: while the first half is done the next one is claimed.

        Else works that are quick end together, and everybody waits for the claim.
        """
        return min(self.free, max(PORTION, self.queue.slots // 2))

    @property
    def free_to_undo(self) -> int:
        """How many works may be begun to be undone."""
        return min(self.free, self.queue.undo_slots - self.undoing)

    @property
    def is_known(self) -> bool:
        """Whether the other drainers leave this one its share of a pace."""
        shared = self.rooms is not None and self.rooms.drainers > 1
        return not shared or time.monotonic() >= self.known_at

    async def claim(
        self, connection: AsyncConnection[Any], *, drainer: int, named: Sequence[int] = ()
    ) -> Taken:
        """Take works from the round, or of the tenants that are named."""
        return await claim(
            connection,
            self.queue,
            drainer=drainer,
            slots=self.portion,
            cursor=Cursor() if named else self.cursor,
            under_way=self.under_way,
            rooms=self.rooms,
            named=named,
        )

    def later(self, seconds: float, due: Callable[[], None]) -> None:
        """Have `due` called in a moment; the soonest of such moments is the one that counts."""
        loop = asyncio.get_running_loop()
        seconds = max(seconds, 0.001)  # uvloop has no timers for less, whose `when` can be asked.
        if self.timer is not None:
            if self.timer.when() <= loop.time() + seconds:
                return
            self.timer.cancel()
        self.timer = loop.call_later(seconds, self._due, due)

    def _due(self, due: Callable[[], None]) -> None:
        self.timer = None
        due()

    def begin(self, claim: Claim) -> None:
        """Count a work that starts."""
        self.busy += 1
        self.of_tenants[claim.tenant_id] += 1
        self.undoing += claim.discarding
        if claim.destination is not None:
            self.under_way[claim.destination] += 1
        if self.rooms is not None:
            self.rooms.begin(claim)

    def opens_after(self, taken: Taken) -> float | None:
        """Seconds until there may be more to claim where a claim took some, or found no room."""
        places: set[Place] = set(taken.waiting)
        places.update(place for one in taken.claims if (place := place_of(one)))
        wait = None if self.rooms is None else self.rooms.wait(places)
        return min((one for one in (wait, taken.after) if one is not None), default=None)

    def end(self, claim: Claim, outcome: Outcome, elapsed: float) -> None:
        """Count a work that has come to its end, `elapsed` seconds after its start."""
        self.busy -= 1
        self.undoing -= claim.discarding
        _less(self.of_tenants, claim.tenant_id)
        if claim.destination is not None:
            _less(self.under_way, claim.destination)
        if self.rooms is not None:
            self.rooms.end(claim, outcome, elapsed)

    def hear(self, tenants: Collection[int]) -> None:
        """Heed a hint that names these; or nobody."""
        now = time.monotonic()
        fresh = {
            one
            for one in tenants
            if self.of_tenants[one] < FEW and self.barren.get(one, 0.0) <= now
        }
        self.named |= fresh
        if not fresh or len(fresh) < len(tenants):
            self.whole = self.hinted = True

    def answered(self, named: Collection[int], taken: Taken) -> None:
        """Count a claim in that was for these alone."""
        if taken.claims:
            return
        if len(self.barren) > MOST_BARREN:
            self.barren.clear()
        self.barren |= dict.fromkeys(named, time.monotonic() + BARREN)

    def too_soon(self) -> float:
        """Seconds to wait before the next claim; not above 0 when it may be made.

        With few slots free it waits for more: a claim costs the same for many as for one. So does
        a paced queue, where works end one by one; somebody's new campaign does not wait for them.
        """
        gap = CLAIM_GAP if self.free * 2 < self.queue.slots else 0.0
        if self.rooms is not None:
            gap = HINTED_GAP if self.hinted else CLAIM_GAP
        begins_at = max(self.rests_until, 0.0 if self.is_known else self.known_at)
        return max(self.claimed_at + gap, begins_at) - time.monotonic()

    def has_news(self, *, promoted: int, newest: UUID | None) -> bool:
        """Whether a look that found pending works is a reason to claim."""
        known, self.newest = self.newest, newest
        if promoted > 0 or newest != known:
            self.rests_until = min(self.rests_until, self.wakes_at)
            return True
        now = time.monotonic()
        if self.hinted and self.spared_until <= now < self.rests_until:
            self.spared_until = self.rests_until
            self.rests_until = self.wakes_at
            return True
        return now >= self.unasked_until


@dataclass
class Round:
    """Claims from one queue, one after the other, until there is nothing more to be had."""

    serving: Serving
    found: bool = False
    fruitless: float = 0.0  # Seconds of claims that took nothing.
    came_round: bool = False  # To the first tenant again, and has found nothing since.
    begun: bool = False

    def begin(self) -> None:
        """Say that a claim is about to be made: the round's first answers the hints until now."""
        if not self.begun:
            self.begun, self.serving.hinted, self.serving.whole = True, False, False

    def claimed(self, taken: Taken) -> bool:
        """Count a claim in; whether the round is over."""
        self.serving.claimed_at = time.monotonic()
        if taken.claims:
            self.found = True
        elif not taken.contended and not taken.waiting:
            self.fruitless += taken.took
        over = taken.exhausted or (taken.ended and self.came_round and not taken.claims)
        self.came_round = (self.came_round or taken.ended) and not taken.claims
        return over

    def close(self) -> None:
        """Take the rest that the round's fruitless claims ask for; without any, go on with one."""
        if not self.begun:
            return
        now, cost = time.monotonic(), self.fruitless
        times = REST_AFTER_SUCCESS if self.found else REST
        rest = times * cost if cost > CHEAP else 0.0
        self.serving.rests_until = now + min(rest, LONGEST_REST)
        self.serving.wakes_at = now + max(NEWS_REST, cost)
        unasked = 0.0 if self.found else min(REST_UNASKED * cost, LONGEST_REST)
        self.serving.unasked_until = now + unasked


def _less(counts: Counter[Any], of: object) -> None:
    counts[of] -= 1
    if counts[of] <= 0:
        del counts[of]
