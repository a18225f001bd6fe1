"""The drainer: one long-lived loop that serves all queues.

It looks each second, and when it is woken; claims what its free slots can start; runs the steps,
and settles what they came to. The database may go away and come back meanwhile; Redis need not be
there at all.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from jobs.engine import beat, registering, rescue, rooms, verdict
from jobs.engine.beat import Beat
from jobs.engine.claim import claim_undo
from jobs.engine.gate import Keeper
from jobs.engine.link import Link
from jobs.engine.look import Seen, look
from jobs.engine.serving import CLAIM_GAP, Round, Serving
from jobs.engine.settle import Held
from jobs.engine.settler import Settler
from jobs.engine.threads import Threads
from jobs.engine.trying import Try
from jobs.engine.verdict import Settlement
from jobs.engine.waiting import happens
from jobs.hints import MOST_NAMED, Hint, listen
from jobs.outcomes import Outcome, Withdrawn
from jobs.registry import Queue, queues
from jobs.states import State
from jobs.steps import Claim

log = structlog.get_logger(__name__)

LONGEST_WAIT = 600.0  # Seconds until a lane opens that a timer is set for.
POLL = 1.0  # Seconds between looks, give or take a fifth.
LOOK_GAP = 0.05  # Seconds between looks that hints ask for.
PACE = 0.05  # Seconds between two claims for lanes that may have a work every so often.
AT_ONCE = 4  # Works that start in one turn of the loop.
ROUNDS = 32  # Claims in a row from one queue before the others have their turn.
SWEEP = 60.0  # Seconds between searches for works that are ours and that nobody does.
UNDO_GAP = 0.1  # Seconds from the end of an undoing to the next look, for more of them.
ENDING = 0.02  # Seconds between looks whether all steps have ended, when it is stopped.
LAST_CLAIM = 5.0  # Seconds for the claim in progress when the drainer is stopped.
UNWRITTEN = "lost: how it ended could not be written"


class Drainer:
    """One loop. `run` it on an event loop; `stop` it from any thread.

    `grace` is how many seconds running steps get after `stop`; None: until the last deadline.
    """

    def __init__(
        self,
        *,
        served: Mapping[str, Queue] | None = None,
        grace: float | None = None,
        on_death: Callable[[str], None] = beat.end_process,
    ) -> None:
        self.queues = dict(served if served is not None else queues())
        self.grace = grace
        self.on_death = on_death
        self._thread_slots = sum(one.slots for one in self.queues.values() if one.on_threads)
        self.id = 0
        self._gate = Keeper(on_death)
        self._link = Link("claim", opened=self._gate.opened)
        self._threads = Threads()
        self._serving = {name: Serving(queue) for name, queue in self.queues.items()}
        self._held: set[tuple[Any, int]] = set()  # (id, lease), from claim until settled.
        self._begun: set[tuple[Any, int]] = set()  # As above, from the start until it is written.
        self._wanted: set[str] = set()
        self._look_at = 0.0
        self._looked_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = False

    # ---- From outside ----

    @property
    def busy(self) -> int:
        """How many works are being done."""
        return sum(serving.busy for serving in self._serving.values())

    @property
    def slots(self) -> int:
        return sum(queue.slots for queue in self.queues.values())

    def stop(self) -> None:
        """Claim no more, finish what runs, hand back what does not, and return from run()."""
        if self._stop_asked:
            return
        self._stop_asked = True
        log.info("drainer_stopping", drainer=self.id, busy=self.busy)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._halt)

    def _halt(self) -> None:
        """One call from the other thread: after the first of two the loop may be closed."""
        self._stop.set()
        self._wake.set()

    def want(self, name: str) -> None:
        """Claim from this queue soon. On the loop only."""
        if name in self.queues:
            self._serving[name].whole = True
            self._wanted.add(name)
            self._wake.set()

    def _hinted(self, hint: Hint) -> None:
        """Claim soon, as `want`; of a queue that rests a look says whether the rest is over."""
        if hint.queue in self.queues:
            self._serving[hint.queue].hear(hint.tenants)
            self._wanted.add(hint.queue)
            self._wake.set()

    async def run(self) -> None:
        """Serve until stopped."""
        self._loop = asyncio.get_running_loop()
        self._wake, self._stop = asyncio.Event(), asyncio.Event()
        self._settler = Settler(running=lambda: self.busy, settled=self._on_settled)
        self._threads.use()
        if not await self._unless_stopped(self._register()):
            await self._link.close()
            return
        self._beat = Beat(self.id, busy=lambda: self.busy, on_death=self.on_death)
        self._beat.start()
        log.info("drainer_started", drainer=self.id, queues=list(self.queues), slots=self.slots)
        background = [
            asyncio.create_task(self._vital(coroutine))
            for coroutine in (self._tick(), self._settler.run(), listen(self._hinted))
        ]
        try:
            await self._unless_stopped(self._serve())
            await self._finish()
        finally:
            for task in background:
                task.cancel()
            self._beat.stop()
            await self._leave()
            log.info("drainer_stopped", drainer=self.id)

    # ---- The loop ----

    async def _register(self) -> None:
        self.id, most = await registering.register(self._link, slots=self.slots)
        self._gate.enter()
        for serving in self._serving.values():
            serving.enter(most)

    async def _vital(self, part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        except Exception:
            log.exception("drainer_part_failed", drainer=self.id)
            self.on_death("a part of its loop failed")

    async def _tick(self) -> None:
        while True:
            self._beat.tick()
            if not self._beat.is_alive():
                self.on_death("its beat has ended")
            if self._threads.written_off > max(4, self._thread_slots // 2):
                self.on_death(
                    f"{self._threads.written_off} threads hang in steps past their deadline"
                )
            await asyncio.sleep(1.0)

    async def _unless_stopped(self, part: Coroutine[Any, Any, None]) -> bool:
        """Await `part`; whether it came to an end of its own. Raises what it raises."""
        task, stopped = asyncio.create_task(part), asyncio.create_task(self._stop.wait())
        if self._stop_asked:
            self._stop.set()
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        # Let the claim in progress end; while the database is away there is none.
        await asyncio.wait({task}, timeout=LAST_CLAIM)
        if not task.done():
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    async def _serve(self) -> None:
        sweep_at = 0.0
        while not self._stop_asked:
            now = time.monotonic()
            if now >= self._look_at:
                await self._look()
            if now >= sweep_at or self._link.reconnected:
                await self._sweep()
                sweep_at = time.monotonic() + SWEEP
            await self._claim_wanted()
            await self._sleep(self._look_at)

    async def _sleep(self, until: float) -> None:
        await happens(self._wake, within=max(0.0, until - time.monotonic()))
        self._wake.clear()

    async def _look(self) -> None:
        served = list(self.queues.values())
        self._looked_at = time.monotonic()
        seen: Seen = await self._link.run(partial(look, queues=served))
        await self._link.run(partial(self._gate.saw, held=seen.held, lease=seen.lease))
        if seen.dead:
            if self._beat.steady:
                await self._link.run(rescue.declare_dead)
            # Some are dead by their own word: they left with works in progress.
            await self._link.run(partial(rescue.close_lost, queues=served))
        for queue in served:
            name, serving = queue.name, self._serving[queue.name]
            if seen.undoable[name]:
                await self._claim_undo(serving)
            news = serving.has_news(promoted=seen.promoted[name], newest=seen.newest[name])
            if seen.runnable[name] and news:
                self.want(name)
            if serving.rooms is not None:
                await rooms.tend(serving.rooms, self._link, drainers=seen.drainers)
        pause = CLAIM_GAP if seen.more_due else POLL * random.uniform(0.8, 1.2)  # noqa: S311
        self._look_at = time.monotonic() + pause

    async def _sweep(self) -> None:
        """Close what is ours by the database and unknown here.

        A claim's answer was lost: it goes back as it was. Or how it ended cannot be written, or was
        written and is lost with the server that had it.
        """
        self._link.reconnected = False
        self._gate.heed()
        mine = f"d.id = {int(self.id)}"
        for queue in self.queues.values():
            for one in await self._link.run(partial(rescue.held, queue=queue, which=mine)):
                if (one.id, one.lease) in self._held:
                    continue
                lost = (one.id, one.lease) in self._begun or self._gate.has_received(one.lease)
                lose = verdict.lose(one, queue=queue, error=UNWRITTEN)
                self._put(lose if lost else verdict.hand_back(one))

    # ---- Claiming ----

    async def _claim_wanted(self) -> None:
        wanted, self._wanted = self._wanted, set()
        await self._claim_named()
        for name, serving in self._serving.items():
            if name in wanted and serving.whole and not self._stop_asked:
                claims = Round(serving)
                await self._claim_from(serving, claims)
                claims.close()

    async def _claim_named(self) -> None:
        """Claim for those whom hints named, of all queues: they wait for no round's end."""
        for serving in self._serving.values():
            if serving.named and not self._stop_asked:
                await self._claim_for_named(serving)

    async def _claim_for_named(self, serving: Serving) -> None:
        """What this claim leaves is left to the round."""
        named, serving.named = sorted(serving.named), set()
        if len(named) > MOST_NAMED or serving.free <= 0 or not serving.is_known:
            serving.whole = True
            return
        if not self._beat.fresh:
            return
        taken = await self._link.run(partial(serving.claim, drainer=self.id, named=named))
        self._start(serving, taken.claims)
        serving.answered(named, taken)
        serving.whole |= not taken.exhausted
        if (after := serving.opens_after(taken)) is not None:
            self._later(min(max(after, PACE), LONGEST_WAIT), serving)

    async def _claim_from(self, serving: Serving, claims: Round) -> None:
        for _ in range(ROUNDS):
            serving.starved = serving.free <= 0
            if serving.starved or not self._beat.fresh:
                return
            if (seconds := serving.too_soon()) > 0:
                self._later(seconds, serving)
                if serving.hinted and seconds > LOOK_GAP:
                    self._look_at = min(self._look_at, self._looked_at + LOOK_GAP)
                return
            claims.begin()
            taken = await self._link.run(partial(serving.claim, drainer=self.id))
            self._start(serving, taken.claims)
            over = claims.claimed(taken)
            await self._claim_named()
            if (after := serving.opens_after(taken)) is not None:
                # Lanes that open one after the other are served a few at a time.
                self._later(min(max(after, PACE), LONGEST_WAIT), serving)
            if over:
                return
            if taken.contended and not taken.claims:
                self._later(random.uniform(0.005, 0.02), serving)  # noqa: S311
                return
        self._later(CLAIM_GAP, serving)

    def _again(self, serving: Serving, one: Claim) -> None:
        """Claim from a queue of which a work has ended, as soon as there is room where it went.

        Works end by the hundred in one turn of the loop, and often at one place: it is asked once.
        """
        if serving.rooms is None:
            self.want(serving.queue.name)
            return
        if not serving.ended:
            asyncio.get_running_loop().call_soon(self._go_on, serving)
        serving.ended.add(rooms.place_of(one))

    def _go_on(self, serving: Serving) -> None:
        places, serving.ended = serving.ended, set()
        known = {place for place in places if place is not None}
        if serving.rooms is None or serving.starved or len(known) < len(places):
            self.want(serving.queue.name)
        elif (wait := serving.rooms.wait(known)) is not None:
            self._later(wait, serving)

    async def _claim_undo(self, serving: Serving) -> None:
        """Undoing is in no hurry, and may hang: what is to be done keeps the most of the slots."""
        slots = serving.free_to_undo
        if slots > 0 and self._beat.fresh:
            claims = await self._link.run(
                partial(claim_undo, queue=serving.queue, drainer=self.id, slots=slots)
            )
            self._start(serving, claims)

    def _later(self, seconds: float, serving: Serving) -> None:
        """Claim from this queue in a moment."""
        serving.later(seconds, partial(self.want, serving.queue.name))

    # ---- Doing ----

    def _start(self, serving: Serving, claims: Sequence[Claim]) -> None:
        self._gate.received(one.lease for one in claims)
        for one in claims:
            serving.begin(one)
            self._held.add((one.id, one.lease))
        self._try(serving, claims)

    def _try(self, serving: Serving, claims: Sequence[Claim]) -> None:
        """A few in each turn of the loop, which has others' answers to read meanwhile."""
        for one in claims[:AT_ONCE]:
            # A process that was frozen wakes up here, with works that may be others' by now.
            if self._stop_asked or not self._beat.fresh:
                serving.end(one, Withdrawn("it was not begun"), 0.0)
                self._put(verdict.hand_back(one))
            else:
                self._begun.add((one.id, one.lease))
                Try(one, serving.queue, partial(self._ended, serving, one))
        if rest := claims[AT_ONCE:]:
            asyncio.get_running_loop().call_soon(self._try, serving, rest)

    def _ended(self, serving: Serving, one: Claim, outcome: Outcome, elapsed: float) -> None:
        serving.end(one, outcome, elapsed)
        self._settler.put(
            verdict.settle(one, outcome, queue=serving.queue, elapsed=elapsed, random=random.random)
        )
        self._again(serving, one)
        if one.discarding:
            self._look_at = min(self._look_at, time.monotonic() + UNDO_GAP)

    def _put(self, settlement: Settlement) -> None:
        self._held.add((settlement.claim.id, settlement.claim.lease))
        self._settler.put(settlement)

    def _on_settled(self, batch: Sequence[Settlement], written: set[Held]) -> None:
        self._begun -= written
        for one in batch:
            self._held.discard((one.claim.id, one.claim.lease))
            serving = self._serving[one.claim.queue]
            if one.state == State.PENDING:
                self.want(one.claim.queue)
            else:
                self._again(serving, one.claim)  # Its lane has room again.

    # ---- The end ----

    async def _finish(self) -> None:
        ends_at = time.monotonic() + (math.inf if self.grace is None else self.grace)
        while self.busy and time.monotonic() < ends_at:
            await asyncio.sleep(ENDING)
        try:
            await asyncio.wait_for(self._settler.flushed(), registering.LEAVE)
        except TimeoutError:
            log.error("settlements_left", count=len(self._held))

    async def _leave(self) -> None:
        served = list(self.queues.values())
        await registering.leave(self._link, drainer=self.id, served=served)
        for queue in served:
            if queue.closing is not None:
                await queue.closing()
        await self._settler.close()
        await self._link.close()
