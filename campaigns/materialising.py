"""The job `campaigns.materialise`: a message for each of the audience, chunk by chunk.

A chunk is fenced by the lease: the messages, why others get none, and, committed last, how far it
is. Two connections share a chunk, for what Postgres does for a message is one core's work. Killed
anywhere, it goes on behind the last chunk, and nobody is counted or written to twice: what one of
the two wrote of a chunk that did not end is found there (docs/decisions/0031).
While it runs the lane is shut; with the last chunk the campaign sends, unless it was paused.
"""

import contextvars
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from campaigns import endings, errands, lanes, moves, writing
from campaigns.errors import CampaignNotFound
from campaigns.models import Campaign
from campaigns.states import CampaignState
from campaigns.writing import Half, Written
from jobs.fence import hold
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.services import wake_after_commit
from jobs.steps import Claim
from tenants.context import require_tenant, tenant_context

STRETCH = 20.0  # Seconds at a time; then others' jobs have their turn.
CHUNK_SECONDS = 0.5  # What a chunk is to take: its locks, and the role's time-out of 5 s.
FEWEST, FIRST, MOST = 500, 5_000, 100_000  # Looked at in a chunk.
SECOND_WRITERS = 2  # Of a process at once: its pool has a connection for each slot and these.
S = CampaignState

_second_writers = threading.BoundedSemaphore(SECOND_WRITERS)


@dataclass(slots=True)
class Pace:
    """How many are looked at in a chunk, so that one takes CHUNK_SECONDS."""

    size: int = FIRST
    torn: bool = True  # Half a chunk may be there that was given up: until it was looked.

    def took(self, seconds: float) -> None:
        """Learn from a chunk; at most twice as many, or half, the next time."""
        wanted = self.size * CHUNK_SECONDS / max(seconds, 0.001)
        nearer = min(max(wanted, self.size / 2), self.size * 2)
        self.size = int(min(max(nearer, FEWEST), MOST))


@dataclass(frozen=True, slots=True)
class Second:
    """A thread with a connection of its own, which writes the odd half of a chunk."""

    claim: Claim
    thread: Executor

    def begin(self, campaign: Campaign, edge: UUID | None, torn: bool) -> Future[Written]:
        """Have it written up to `edge`, and committed."""
        context = contextvars.copy_context()
        return self.thread.submit(context.run, _write_odd, self.claim, campaign, edge, torn)


def run(claim: Claim) -> Outcome:
    """The job `campaigns.materialise`."""
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - STRETCH)
    pace = Pace()
    with tenant_context(claim.tenant), _second_writer(claim) as second:
        while time.monotonic() < ends_at:
            began_at = time.monotonic()
            try:
                if _chunk(claim, UUID(claim.data["args"]["campaign"]), pace, second):
                    return Succeeded()
            except OperationalError as error:
                cancelled = isinstance(error.__cause__, psycopg.errors.QueryCanceled)
                if not cancelled or pace.size == FEWEST:
                    raise
                pace.torn = True
            pace.took(time.monotonic() - began_at)
    return Snooze(0.0, "there is more to do")


@contextmanager
def _second_writer(claim: Claim) -> Iterator["Second | None"]:
    """Who writes half of each chunk; None while others have those that there are."""
    if not _second_writers.acquire(blocking=False):
        yield None
        return
    try:
        with ThreadPoolExecutor(1, "materialise") as thread:
            yield Second(claim, thread)
    finally:
        _second_writers.release()


def _chunk(claim: Claim, campaign_id: UUID, pace: Pace, second: Second | None = None) -> bool:
    """Whether it was the last one, or nobody wants it any more."""
    with transaction.atomic():
        hold(claim)
        try:
            campaign = moves.locked(campaign_id)
        except CampaignNotFound:
            return True
        if campaign.state == S.FAILED:  # Its dead letter was replayed.
            moves.begin_again(campaign)
        if campaign.state not in (S.MATERIALISING, S.PAUSED) or campaign.materialised_at:
            _withdraw(campaign)
            return True
        if campaign.started_at is None:
            _start(campaign)
        ended = _write(campaign, pace, second)
        if ended:
            _end(campaign)
    return ended


def _withdraw(campaign: Campaign) -> None:
    """See to what a second writer wrote of a chunk that was given up, and was cancelled since."""
    if campaign.state == S.CANCELLED:
        errands.leave(campaign, errands.WITHDRAW, again=True, reason=endings.CANCELLED)


def _start(campaign: Campaign) -> None:
    campaign.started_at = timezone.now()
    Campaign.objects.filter(pk=campaign.pk).update(started_at=campaign.started_at)
    lanes.tell(campaign)  # Shut, before there is anything in it.


def _write(campaign: Campaign, pace: Pace, second: Second | None = None) -> bool:
    """The next messages and skips, counted; whether these were the last."""
    edge = writing.edge(campaign, pace.size)
    pace.torn = pace.torn and writing.is_torn(campaign)
    # Most audiences end with their first chunk: it is not worth a second connection.
    if second is None or campaign.place is None:
        halves = [writing.write(campaign, edge, torn=pace.torn)]
    else:
        halves = _write_halves(campaign, edge, second, pace.torn)
    campaign.place = edge or campaign.place
    campaign.total += sum(half.made for half in halves)
    campaign.skipped += sum(half.skipped for half in halves)
    Campaign.objects.filter(pk=campaign.pk).update(
        place=campaign.place, total=campaign.total, skipped=campaign.skipped
    )
    return edge is None


def _write_halves(
    campaign: Campaign, edge: UUID | None, second: Second, torn: bool
) -> list[Written]:
    """The chunk, half of it here and half in a transaction that ends before the caller's."""
    other = second.begin(campaign, edge, torn)
    try:
        half = writing.write(campaign, edge, Half.EVEN, torn=torn)
    finally:
        wait([other])
    return [half, other.result()]


def _write_odd(claim: Claim, campaign: Campaign, edge: UUID | None, torn: bool = False) -> Written:
    try:
        with transaction.atomic():
            hold(claim)
            return writing.write(campaign, edge, Half.ODD, torn=torn)
    finally:
        connection.close()  # The pool's.


def _end(campaign: Campaign) -> None:
    """Everybody has a message: let them go out."""
    campaign.materialised_at = timezone.now()
    Campaign.objects.filter(pk=campaign.pk).update(materialised_at=campaign.materialised_at)
    after = {"messages": campaign.total, "skipped": campaign.skipped}
    moves.record(campaign, "materialised", actor=endings.ACTOR, after=after)
    if campaign.state == S.PAUSED:
        endings.watch(campaign)
    elif campaign.total == 0:
        endings.complete(campaign)
    else:
        moves.move(campaign, S.RUNNING)
        lanes.tell(campaign)
        endings.watch(campaign)
        wake_after_commit(lanes.QUEUE, tenant_id=require_tenant().id)
