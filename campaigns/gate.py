"""The gate: whether the message that is about to be sent is still wanted, by either side.

Between the making of a campaign's messages and the sending of the last one hours may pass. In them
people opt out, change their number or are erased, and each of these must count from the moment that
it was said. A campaign or its account may be paused in the very moments since the claim. So each
step asks here right before it sends.

All that ask in the same moment for one tenant are answered by one query, on a thread, as the app
role in the tenant's context: customers may live in a schema of their own, which no claim can join.
While a query is under way the next askers gather; a thousand in flight are a few queries a second.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog
from django.db import connection

from jobs.engine import threads
from tenants.context import TenantRef, tenant_context

log = structlog.get_logger(__name__)

MOST = 500  # Questions in one query.
A_TURN = 4  # Answers in one turn of the loop: each begins a request, of 0.3 ms or so.
AT_ONCE = 8  # Queries of one drainer, of all tenants together.
PATIENCE = 5.0  # Seconds for an answer; the database cancels the app role's statements after 5.

# What the step itself may know already (campaigns.steps).
CAMPAIGN_PAUSED = "its campaign is paused"
ACCOUNT_PAUSED = "its account is paused"
ACCOUNT_GONE = "its account is gone"
CANCELLED = "its campaign was cancelled"
EXPIRED = "send_until has passed"

# A test, which is to no customer, goes out whatever its campaign does.
_ASK = f"""
select case
  when asked.customer is not null and g.state = 'cancelled' then '{CANCELLED}'
  when asked.customer is not null and g.send_until <= now() then '{EXPIRED}'
  when exists (select from customers_suppression s
               where s.tenant_id = %(tenant)s and s.phone = asked.phone)
    then 'the number is on the list of those that are not written to'
  when a.deleted_at is not null then '{ACCOUNT_GONE}'
  when a.status <> 'active' then '{ACCOUNT_PAUSED}'
  when asked.customer is null then ''
  when c.id is null then 'its customer was erased'
  when c.consent <> 'given' then 'its customer opted out'
  when c.phone <> asked.phone then 'its customer has another number now'
  when exists (select from customers_customer other
               where other.tenant_id = %(tenant)s and other.phone = asked.phone
                 and other.phone <> '' and other.consent = 'withdrawn')
    then 'somebody with this number opted out'
  when g.state <> 'running' or g.quiet_from <= now() then '{CAMPAIGN_PAUSED}'
  else '' end
from unnest(%(campaigns)s::uuid[], %(customers)s::uuid[], %(phones)s::text[])
  with ordinality asked(campaign, customer, phone, n)
left join customers_customer c on c.tenant_id = %(tenant)s and c.id = asked.customer
left join campaigns_campaign g on g.tenant_id = %(tenant)s and g.id = asked.campaign
left join campaigns_provideraccount a on a.tenant_id = %(tenant)s and a.id = g.account_id
order by asked.n
"""  # noqa: S608 - our own words.


class GateShut(Exception):
    """Nobody can tell at the moment whether the message is wanted, so it must not be sent."""


class _Question(NamedTuple):
    campaign_id: UUID
    customer_id: UUID | None
    phone: str
    answer: "asyncio.Future[str]"


@dataclass(eq=False)
class _Gate:
    """The gate of one event loop: who asks, by tenant, and the tasks that answer."""

    asked: dict[TenantRef, list[_Question]] = field(default_factory=dict)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, _Gate] = WeakKeyDictionary()


async def objection(
    *, tenant: TenantRef, campaign_id: UUID, customer_id: UUID | None, phone: str
) -> str:
    """Why this number must not be written to now by this campaign; "" when it may.

    Without a customer, as for a test, only the account and the suppressed numbers are asked about.
    Raises GateShut when there is no answer.
    """
    loop = asyncio.get_running_loop()
    gate = _gates.setdefault(loop, _Gate())
    question = _Question(campaign_id, customer_id, phone, loop.create_future())
    if tenant in gate.asked:
        gate.asked[tenant].append(question)
    else:
        gate.asked[tenant] = [question]
        task = loop.create_task(_answer(gate, tenant))
        gate.tasks.add(task)
        task.add_done_callback(gate.tasks.discard)
    # A timer costs a fifth of asyncio.wait_for, and each message asks.
    patience = loop.call_later(PATIENCE, _end_waiting, question.answer)
    try:
        return await question.answer
    finally:
        patience.cancel()


def _end_waiting(answer: "asyncio.Future[str]") -> None:
    if not answer.done():
        answer.set_exception(GateShut(f"no answer within {PATIENCE:g} s"))


async def _answer(gate: _Gate, tenant: TenantRef) -> None:
    """Answer a tenant's questions until there are none; others may ask meanwhile."""
    try:
        while gate.asked[tenant]:
            async with gate.room:
                batch, gate.asked[tenant] = gate.asked[tenant][:MOST], gate.asked[tenant][MOST:]
                await _answer_batch(tenant, batch)
    finally:
        del gate.asked[tenant]  # The next to ask starts afresh, whatever became of this.


async def _answer_batch(tenant: TenantRef, batch: Sequence[_Question]) -> None:
    try:
        answers = await threads.current().run(_ask, tenant, batch)
    except threads.StepDied as died:
        error = died.args[0]
        log.warning("gate_shut", tenant=tenant.id, error=type(error).__name__)
        for one in batch:
            if not one.answer.done():
                one.answer.set_exception(GateShut(type(error).__name__))
        return
    for nth, (one, answer) in enumerate(zip(batch, answers, strict=True), 1):
        if nth % A_TURN == 0:  # Whatever else waits for the loop goes between.
            await asyncio.sleep(0)
        if not one.answer.done():  # It had no patience left.
            one.answer.set_result(answer)


def _ask(tenant: TenantRef, batch: Sequence[_Question]) -> list[str]:
    values: dict[str, Any] = {
        "tenant": tenant.id,
        "campaigns": [one.campaign_id for one in batch],
        "customers": [one.customer_id for one in batch],
        "phones": [one.phone for one in batch],
    }
    with tenant_context(tenant), connection.cursor() as cursor:
        cursor.execute(_ASK, values)
        return [answer for (answer,) in cursor.fetchall()]
