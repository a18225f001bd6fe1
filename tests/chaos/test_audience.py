"""An audience that is written while drainers are killed: nobody is left out, or counted twice.

Two connections write each chunk (docs/decisions/0031), and a kill comes between any two of their
statements.
"""

import random
import time
from uuid import UUID

import pytest
from django.db import connection, connections
from django.db.models.functions import Now

from campaigns import services
from campaigns.wishes import Wish
from jobs.models import Drainer
from tenants.context import tenant_context
from tests.campaigns import brought
from tests.chaos.conftest import LONG, Yard, until

CUSTOMERS = 120_000  # Of them one in ten has the number of another, one in seven was not asked.
KILLS = 2  # A third in a row would be poison.
SEEDS = range(8 if LONG else 1)
WRITE = """
insert into customers_customer (id, tenant_id, name, phone, email, attributes, lifetime_value,
  consent, created_at, updated_at)
select slipway.uuid7(), %s, 'C' || n, '+4930' || (1000000 + n - case when n %% 10 = 9 then 7 else 0
  end), '', '{}', 0, case when n %% 7 = 0 then 'unknown' else 'given' end, now(), now()
from generate_series(1, %s) n
"""
STANDS = """
select total, skipped, place, materialised_at is not null from campaigns_campaign where id = %s
"""
# Counted anew, from who there is.
MEANT = """
select count(distinct phone) filter (where consent = 'given'), count(*) from pool.customers_customer
where tenant_id = %s
"""
MADE = """
select count(*), count(distinct phone), count(distinct customer_id) from campaigns_message
where campaign_id = %s
"""
LEFT_OUT = "select count(*), count(distinct customer_id) from campaigns_skip where campaign_id = %s"
# Messages to anybody but the first by id of those who may be written to under a number.
MISLED = """
select count(*) from (
  select phone::text, customer_id from campaigns_message where campaign_id = %s
  except (select distinct on (phone) phone::text, id from pool.customers_customer
          where tenant_id = %s and consent = 'given' order by phone, id)) misled
"""


def ask(statement: str, *values) -> tuple:
    with connections["operator"].cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


@pytest.fixture
def campaign(tenant, yard) -> UUID:
    """One that is paused: it is prepared, and nothing of it is sent."""
    with tenant_context(tenant), connection.cursor() as cursor:
        cursor.execute("set statement_timeout to '60s'")
        cursor.execute(WRITE, [tenant.pk, CUSTOMERS])
        cursor.execute("reset statement_timeout")
    account, template = brought.account(tenant), brought.template(tenant, "Hello {{ name }}")
    with tenant_context(tenant):
        wish = Wish(
            name="Spring", account_id=account.pk, filter=brought.ALL, template_id=template.pk,
            variables={"name": {"field": "name"}},
        )  # fmt: skip
        made, _ = services.create(wish=wish, actor="api_key:test", key=None)
        services.pause(campaign_id=made.pk, actor="api_key:test", reason="only its audience")
    return made.pk


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_is_in_it_once_whoever_writes_it_is_killed(campaign, tenant, yard: Yard, seed):
    chance, killed, before = random.Random(seed), 0, ask(STANDS, campaign)
    while killed < KILLS:
        victim = yard.drain()
        before = until(lambda seen=before: moved(campaign, seen), 30, "a chunk")
        if before[3]:
            break
        time.sleep(0.4 * chance.random())  # Anywhere in the next one.
        victim.kill()
        killed += 1
        Drainer.objects.using("operator").filter(pid=victim.pid).update(dead_at=Now())
    assert killed
    yard.drain()
    until(lambda: ask(STANDS, campaign)[3], 60, "the last chunk")
    total, skipped, _, _ = ask(STANDS, campaign)
    messages, everybody = ask(MEANT, tenant.pk)
    assert (total, skipped) == (messages, everybody - messages)
    assert ask(MADE, campaign) == (messages, messages, messages)
    assert ask(LEFT_OUT, campaign) == (skipped, skipped)
    assert ask(MISLED, campaign, tenant.pk) == (0,)


def moved(campaign: UUID, seen: tuple) -> tuple | None:
    """How it stands, once that is another than was seen."""
    stands = ask(STANDS, campaign)
    return stands if stands != seen else None
