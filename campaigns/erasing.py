"""What campaigns keep of a customer, emptied: messages, their tries and letters, and skips.

A message stays, as a number in its campaign; whom it went to and what it said do not. A number
that nobody else has is looked for, too: tests go to one without a customer, and messages may be
left of a customer that was deleted before.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

from django.db import connection, connections, transaction

from campaigns.models import Message, Skip
from customers.erasing import Erased, NotYet
from jobs.models import DeadLetter
from jobs.resolving import CHUNK, WITHDRAWN, Act, Resolution, resolve
from jobs.services import OPERATOR, cancel
from jobs.states import LEASED, State

QUEUE = "messages"
ACT = Act(Resolution.CANCELLED, "system:erasure", "its customer was erased")
LOOKED_AT = 20_000  # Messages in one statement: a moment of the database's.

# Neither a customer nor a number has an index over all campaigns, which each message would pay for:
# this walks over a tenant's messages as they lie.
_LOOK = """
with part as materialized (
  select id, campaign_id, customer_id, phone from campaigns_message
  where tenant_id = %(tenant)s and (campaign_id, id) > (%(campaign)s, %(message)s)
  order by campaign_id, id limit %(most)s)
select coalesce((select array_agg(p.id) from part p
    where p.customer_id = %(customer)s or p.phone = %(phone)s and p.phone <> '' and not exists (
      select from customers_customer c where c.tenant_id = %(tenant)s and c.id = p.customer_id)),
    '{}'), campaign_id, id
from part order by campaign_id desc, id desc limit 1
"""
# Tries are append-only for the app role: the operator empties them, and of this tenant's alone.
_EMPTY_TRIES = """
update jobs_attempt set request = null, response = null, error = ''
where tenant_id = %s and queue = %s and work_id = any(%s)
"""


def erase(erased: Erased) -> int:
    """See customers.erasing.Eraser. Raises NotYet while one of the messages is being sent."""
    count = sum(_forget(erased, ids) for ids in _theirs(erased))
    return count + Skip.objects.filter(customer_id=erased.customer_id).update(customer_id=None)


def _theirs(erased: Erased) -> Iterator[list[UUID]]:
    """The customer's messages, and those to the number that are nobody's; some at a time."""
    campaign = message = UUID(int=0)
    while True:
        values: dict[str, UUID | int | str] = {
            "tenant": erased.tenant.id, "customer": erased.customer_id,
            "phone": erased.phone, "campaign": campaign,
            "message": message, "most": LOOKED_AT,
        }  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute(_LOOK, values)
            row = cursor.fetchone()
        if row is None:
            return
        found, campaign, message = row
        for first in range(0, len(found), CHUNK):
            yield found[first : first + CHUNK]


def _forget(erased: Erased, ids: Sequence[UUID]) -> int:
    """The logs first: until they are empty, the message tells that they are there."""
    _withdraw(ids)
    tenant = erased.tenant.id
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_EMPTY_TRIES, [tenant, QUEUE, list(ids)])
    letters = DeadLetter.objects.using(OPERATOR).filter(tenant_id=tenant, queue=QUEUE)
    letters.filter(work_id__in=ids).update(request=None, response=None, error="", attempts=[])
    return Message.objects.filter(pk__in=ids).update(
        phone="", params={}, customer_id=None, last_error="", provider_id="", undelivered_why=""
    )


def _withdraw(ids: Sequence[UUID]) -> None:
    """Whatever of them has not been sent never will be. Raises NotYet."""
    with transaction.atomic():
        rows = Message.objects.filter(pk__in=ids).order_by("id").select_for_update()
        states = dict(rows.values_list("pk", "state"))
        waiting = [id_ for id_, state in states.items() if state in WITHDRAWN]
        resolve(queue=QUEUE, ids=waiting, act=ACT, using="default")
        for id_, state in states.items():
            if state == State.DEAD_LETTER:
                cancel(
                    queue=QUEUE, work_id=id_, actor=ACT.actor, reason=ACT.reason, using="default"
                )
    if any(state in LEASED for state in states.values()):
        raise NotYet("one of the messages is being sent")
