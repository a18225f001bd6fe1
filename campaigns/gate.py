"""The gate: whether somebody still wants the message that is about to be sent to them.

Between the making of a campaign's messages and the sending of the last one hours may pass. In them
people opt out, change their number or are erased, and each of these must count from the moment that
it was said. So each step asks here right before it sends.

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
AT_ONCE = 8  # Queries of one drainer, of all tenants together.
PATIENCE = 5.0  # Seconds for an answer; the database cancels the app role's statements after 5.

_ASK = """
select case
  when exists (select from customers_suppression s
               where s.tenant_id = %(tenant)s and s.phone = asked.phone)
    then 'the number is on the list of those that are not written to'
  when asked.customer is null then ''
  when c.id is null then 'its customer was erased'
  when c.consent <> 'given' then 'its customer opted out'
  when c.phone <> asked.phone then 'its customer has another number now'
  else '' end
from unnest(%(customers)s::uuid[], %(phones)s::text[]) with ordinality asked(customer, phone, n)
left join customers_customer c on c.tenant_id = %(tenant)s and c.id = asked.customer
order by asked.n
"""


class GateShut(Exception):
    """Nobody can tell at the moment whether the message is wanted, so it must not be sent."""


class _Question(NamedTuple):
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


async def objection(*, tenant: TenantRef, customer_id: UUID | None, phone: str) -> str:
    """Why this number must not be written to now; "" when it may.

    Without a customer, as for a test, only the list of suppressed numbers is asked.
    Raises GateShut when there is no answer.
    """
    loop = asyncio.get_running_loop()
    gate = _gates.setdefault(loop, _Gate())
    question = _Question(customer_id, phone, loop.create_future())
    if tenant in gate.asked:
        gate.asked[tenant].append(question)
    else:
        gate.asked[tenant] = [question]
        task = loop.create_task(_answer(gate, tenant))
        gate.tasks.add(task)
        task.add_done_callback(gate.tasks.discard)
    try:
        return await asyncio.wait_for(question.answer, PATIENCE)
    except TimeoutError:
        raise GateShut(f"no answer within {PATIENCE:g} s") from None


async def _answer(gate: _Gate, tenant: TenantRef) -> None:
    """Answer a tenant's questions until there are none; others may ask meanwhile."""
    try:
        while gate.asked[tenant]:
            async with gate.room:
                # Whoever waited for the room gathered others, and else the loop's next turn does.
                await asyncio.sleep(0)
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
    for one, answer in zip(batch, answers, strict=True):
        if not one.answer.done():  # It had no patience left.
            one.answer.set_result(answer)


def _ask(tenant: TenantRef, batch: Sequence[_Question]) -> list[str]:
    values: dict[str, Any] = {
        "tenant": tenant.id,
        "customers": [one.customer_id for one in batch],
        "phones": [one.phone for one in batch],
    }
    with tenant_context(tenant), connection.cursor() as cursor:
        cursor.execute(_ASK, values)
        return [answer for (answer,) in cursor.fetchall()]
