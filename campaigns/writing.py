"""The statements by which an audience gets its messages: where a chunk ends, and what it writes.

A chunk may be written in halves, by two who do not wait for each other: of those whose number ends
with an even digit, and of the others. Of customers with one number both halves think the same.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from campaigns import audience, filters, parts, variables
from campaigns.models import Campaign
from campaigns.policy import TRIES
from config.ids import uuid7, uuid7_series
from tenants.context import require_tenant

NOBODY, EVERYBODY = UUID(int=0), UUID(int=2**128 - 1)  # Before all ids, and behind.

# Where a chunk ends: at so many looked at, however few of them are meant.
_EDGE = """
select {place} from {table} where {of} and {place} > %(place)s order by {place}
offset %(most)s limit 1
"""
# `offset 0`: what the variables say is worked out once for each, however often it is asked for.
# `not in` is a hash, where a join of two that are thought to be a row each, as of a new tenant,
# compares all with all.
_WRITE = """
with judged as materialized (
  select c.id as customer, c.phone, v.params, v.missing, {reason} as reason
  from {source} cross join lateral (select {params} as params, {missing} as missing offset 0) v
  where {meant}
),
made as (
  insert into campaigns_message
    (id, tenant_id, campaign_id, lane, account_key, customer_id, phone, params, max_attempts)
  select {id}, %(tenant)s, %(campaign)s, %(lane)s, %(account)s, customer, phone, params, %(tries)s
  from judged where reason is null order by customer
  on conflict (tenant_id, campaign_id, phone) where not test and not phone = '' do nothing
  returning customer_id
),
others as materialized (
  select customer, missing,
    case when reason is not null then reason {made} else 'duplicate_phone' end as reason
  from judged where customer not in (select customer_id from made)
),
skipped as (
  insert into campaigns_skip (id, tenant_id, campaign_id, customer_id, reason, detail)
  select slipway.uuid7(), %(tenant)s, %(campaign)s, customer, reason,
    case when reason = 'missing_variable' then left(missing, 100) else '' end
  from others where reason <> 'made' {left_out} order by customer
)
select (select count(*) from made) + count(*) filter (where reason = 'made'),
  count(*) filter (where reason <> 'made')
from others
"""
# What a half wrote before its chunk was given up is found, and counted, when the chunk is written
# again. `offset 0`, and `is not distinct from`, which no index knows: each is looked up by an index
# that leads to it alone. Of tables that nobody has counted yet the wrong one may be taken, so that
# this is asked only where there may be such.
_MADE = """
when exists (
  select from campaigns_message m where m.tenant_id = %(tenant)s and m.campaign_id = %(campaign)s
    and m.phone = judged.phone and not m.test and not m.phone = ''
    and m.customer_id = judged.customer offset 0) then 'made'
"""
_LEFT_OUT = """
and not exists (
  select from campaigns_skip k where k.tenant_id = %(tenant)s and k.customer_id = customer
    and k.campaign_id is not distinct from %(campaign)s offset 0)
"""
# More than the campaign's row knows of.
_MORE = """
select (select count(*) from campaigns_message m where m.tenant_id = c.tenant_id
    and m.campaign_id = c.id and not m.test) <> c.total
  or (select count(*) from campaigns_skip k where k.tenant_id = c.tenant_id
    and k.campaign_id = c.id) <> c.skipped
from campaigns_campaign c where c.tenant_id = %s and c.id = %s
"""


class Half(StrEnum):
    """Whose messages a statement writes, as SQL of their number."""

    BOTH = "true"
    EVEN = "ascii(right(c.phone, 1)) % 2 = 0"
    ODD = "ascii(right(c.phone, 1)) % 2 = 1"


class Written(NamedTuple):
    """What came of those who were looked at."""

    made: int  # Messages.
    skipped: int  # Customers who got none.


@dataclass(frozen=True, slots=True)
class Source:
    """From where an audience is taken: of what the ids are by which it is gone through."""

    table: str
    of: str  # Whose.
    place: str  # The id, with its table's alias.
    source: str  # FROM, with customers named `c` and suppressions `s` (campaigns.audience).
    meant: str
    values: dict[str, Any]


def edge(campaign: Campaign, most: int) -> UUID | None:
    """The id up to which the campaign's next chunk goes, of so many; None to the end."""
    source = source_of(campaign)
    statement = _EDGE.format(table=source.table, of=source.of, place=source.place)
    values = {"place": campaign.place or NOBODY, "most": most - 1}
    with connection.cursor() as cursor:
        cursor.execute(statement, source.values | values)
        row = cursor.fetchone()
    return row[0] if row else None


def is_torn(campaign: Campaign) -> bool:
    """Whether half a chunk is there that was given up: to be asked while the campaign is locked."""
    with connection.cursor() as cursor:
        cursor.execute(_MORE, [require_tenant().id, campaign.pk])
        return bool(cursor.fetchone()[0])


def write(
    campaign: Campaign, edge: UUID | None, half: Half = Half.BOTH, *, torn: bool = False
) -> Written:
    """Write the messages and skips from the campaign's place to the edge, which is the chunk's.

    What is there already, where the chunk is `torn`, is counted, and not written again.
    """
    statement, values = statement_of(campaign, half, torn=torn)
    values |= {"place": campaign.place or NOBODY, "edge": edge or EVERYBODY}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        written = Written(*cursor.fetchone())
        # A fifth of the work, which two do at once here, and one after the other as they commit.
        cursor.execute("set constraints all immediate")
    return written


def statement_of(
    campaign: Campaign, half: Half = Half.BOTH, *, torn: bool = False
) -> tuple[str, dict[str, Any]]:
    """_WRITE for this campaign, and its parameters but `place` and `edge`."""
    source = source_of(campaign)
    text = parts.read(campaign.content or {"text": ""}).whole
    said = variables.expression(campaign.variables, text=text, time_zone=campaign.time_zone)
    statement = _WRITE.format(
        id=uuid7_series("row_number() over (order by customer)", seed="%(seed)s"),
        made=_MADE if torn else "",
        left_out=_LEFT_OUT if torn else "",
        params=said.params,
        missing=said.missing,
        reason=audience.reason("v.missing"),
        source=source.source,
        meant=f"{source.of} and {source.place} > %(place)s and {source.place} <= %(edge)s"
        f" and {half.replace('%', '%%')} and {source.meant}",
    )
    own = {
        "seed": uuid7().hex,
        "campaign": campaign.pk,
        "lane": campaign.lane,
        "account": f"account:{campaign.account_id}",
        "tries": TRIES.attempts,
    }
    return statement, source.values | said.values | own


def source_of(campaign: Campaign) -> Source:
    """The customers of its filter; of a follow-up, those who did not read its parent."""
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
