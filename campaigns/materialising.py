"""The job `campaigns.materialise`: a message for each of the audience, chunk by chunk.

A chunk is one transaction, fenced by the lease: the messages, why others get none, and how far it
is. Killed anywhere, it goes on behind the last chunk, and nobody is counted or written to twice.
While it runs the lane is shut; with the last chunk the campaign sends, unless it was paused.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from campaigns import audience, endings, filters, lanes, moves, parts, variables
from campaigns.errors import CampaignNotFound
from campaigns.models import Campaign
from campaigns.policy import TRIES
from campaigns.states import CampaignState
from jobs.fence import hold
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.services import wake_after_commit
from jobs.steps import Claim
from tenants.context import require_tenant, tenant_context

STRETCH = 20.0  # Seconds at a time; then others' jobs have their turn.
CHUNK_SECONDS = 0.5  # What a chunk is to take: its locks, and the role's time-out of 5 s.
FEWEST, FIRST, MOST = 500, 5_000, 40_000  # Looked at in a chunk.

NOBODY, EVERYBODY = UUID(int=0), UUID(int=2**128 - 1)  # Before all ids, and behind.
S = CampaignState

# Where a chunk ends: at so many looked at, however few of them are meant.
_EDGE = """
select {place} from {table} where {of} and {place} > %(place)s order by {place}
offset %(most)s limit 1
"""
# `offset 0`: what the variables say is worked out once for each, however often it is asked for.
_WRITE = """
with judged as materialized (
  select c.id as customer, c.phone, v.params, v.missing, {reason} as reason
  from {source} cross join lateral (select {params} as params, {missing} as missing offset 0) v
  where {meant}
),
made as (
  insert into campaigns_message
    (id, tenant_id, campaign_id, lane, account_key, customer_id, phone, params, max_attempts)
  select slipway.uuid7(), %(tenant)s, %(campaign)s, %(lane)s, %(account)s, customer, phone, params,
    %(tries)s
  from judged where reason is null order by customer
  on conflict (tenant_id, campaign_id, phone) where not test and not phone = '' do nothing
  returning customer_id
),
skipped as (
  insert into campaigns_skip (id, tenant_id, campaign_id, customer_id, reason, detail)
  select slipway.uuid7(), %(tenant)s, %(campaign)s, customer, coalesce(reason, 'duplicate_phone'),
    case when reason = 'missing_variable' then left(missing, 100) else '' end
  from judged left join made on made.customer_id = judged.customer
  where made.customer_id is null order by customer
  returning 1
)
select (select count(*) from made), (select count(*) from skipped)
"""


@dataclass(frozen=True, slots=True)
class Source:
    """From where an audience is taken: of what the ids are by which it is gone through."""

    table: str
    of: str  # Whose.
    place: str  # The id, with its table's alias.
    source: str  # FROM, with customers named `c` and suppressions `s` (campaigns.audience).
    meant: str
    values: dict[str, Any]


@dataclass(slots=True)
class Pace:
    """How many are looked at in a chunk, so that one takes CHUNK_SECONDS."""

    size: int = FIRST

    def took(self, seconds: float) -> None:
        """Learn from a chunk; at most twice as many, or half, the next time."""
        wanted = self.size * CHUNK_SECONDS / max(seconds, 0.001)
        nearer = min(max(wanted, self.size / 2), self.size * 2)
        self.size = int(min(max(nearer, FEWEST), MOST))


def run(claim: Claim) -> Outcome:
    """The job `campaigns.materialise`."""
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - STRETCH)
    pace = Pace()
    with tenant_context(claim.tenant):
        while time.monotonic() < ends_at:
            began_at = time.monotonic()
            try:
                if _chunk(claim, UUID(claim.data["args"]["campaign"]), pace.size):
                    return Succeeded()
            except OperationalError as error:
                cancelled = isinstance(error.__cause__, psycopg.errors.QueryCanceled)
                if not cancelled or pace.size == FEWEST:
                    raise
            pace.took(time.monotonic() - began_at)
    return Snooze(0.0, "there is more to do")


def _chunk(claim: Claim, campaign_id: UUID, most: int) -> bool:
    """One transaction; whether it was the last one."""
    with transaction.atomic():
        hold(claim)
        try:
            campaign = moves.locked(campaign_id)
        except CampaignNotFound:
            return True
        if campaign.state == S.FAILED:  # Its dead letter was replayed.
            moves.begin_again(campaign)
        if campaign.state not in (S.MATERIALISING, S.PAUSED) or campaign.materialised_at:
            return True
        if campaign.started_at is None:
            _start(campaign)
        ended = _write(campaign, most)
        if ended:
            _end(campaign)
    return ended


def _start(campaign: Campaign) -> None:
    campaign.started_at = timezone.now()
    Campaign.objects.filter(pk=campaign.pk).update(started_at=campaign.started_at)
    lanes.tell(campaign)  # Shut, before there is anything in it.


def _write(campaign: Campaign, most: int) -> bool:
    """The next messages and skips, counted; whether these were the last."""
    source, place = _source(campaign), campaign.place or NOBODY
    edge = _edge(source, place, most)
    statement, values = _statement(campaign, source)
    with connection.cursor() as cursor:
        cursor.execute(statement, values | {"place": place, "edge": edge or EVERYBODY})
        made, skipped = cursor.fetchone()
    campaign.place = edge or place
    campaign.total += made
    campaign.skipped += skipped
    Campaign.objects.filter(pk=campaign.pk).update(
        place=campaign.place, total=campaign.total, skipped=campaign.skipped
    )
    return edge is None


def _statement(campaign: Campaign, source: Source) -> tuple[str, dict[str, Any]]:
    """_WRITE for this campaign, and its parameters but `place` and `edge`."""
    text = parts.read(campaign.content or {"text": ""}).whole
    said = variables.expression(campaign.variables, text=text, time_zone=campaign.time_zone)
    statement = _WRITE.format(
        params=said.params,
        missing=said.missing,
        reason=audience.reason("v.missing"),
        source=source.source,
        meant=f"{source.of} and {source.place} > %(place)s and {source.place} <= %(edge)s"
        f" and {source.meant}",
    )
    own = {
        "campaign": campaign.pk,
        "lane": campaign.lane,
        "account": f"account:{campaign.account_id}",
        "tries": TRIES.attempts,
    }
    return statement, source.values | said.values | own


def _edge(source: Source, place: UUID, most: int) -> UUID | None:
    """The id up to which the chunk goes; None to the end."""
    statement = _EDGE.format(table=source.table, of=source.of, place=source.place)
    with connection.cursor() as cursor:
        cursor.execute(statement, source.values | {"place": place, "most": most - 1})
        row = cursor.fetchone()
    return row[0] if row else None


def _source(campaign: Campaign) -> Source:
    return _unread(campaign) if campaign.parent_id else _segment(campaign)


def _segment(campaign: Campaign) -> Source:
    """The customers of its filter, as "the last N days" were when it began."""
    began_at: datetime | None = campaign.started_at
    meant, values = filters.parse(campaign.filter).sql(began_at)
    return Source(
        table="customers_customer c",
        of="c.tenant_id = %(tenant)s",
        place="c.id",
        source=audience.FROM,
        meant=meant,
        values=values | {"tenant": require_tenant().id},
    )


def _unread(campaign: Campaign) -> Source:
    """Whoever was sent its parent, had it delivered for all that is known, and has not read it."""
    return Source(
        table="campaigns_message m",
        of="m.tenant_id = %(tenant)s and m.campaign_id = %(parent)s",
        place="m.id",
        source=f"{audience.FROM} join campaigns_message m"
        " on m.tenant_id = c.tenant_id and m.customer_id = c.id",
        meant="m.state = 'succeeded' and not m.test and m.read_at is null"
        " and m.undelivered_at is null",
        values={"tenant": require_tenant().id, "parent": campaign.parent_id},
    )


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
