"""Messages of which nobody can tell whether they were sent, and who resolves them.

A message is `unknown` when its request may have been accepted and no usable answer came, or when
its drainer died in the middle (docs/decisions/0018). Whoever learns more says so here, by one
guarded move each, counted with it:

- the provider, by a status callback, or by one that came while its reply was awaited (`resolve`);
- the campaign's policy: `on_unknown: retry` sends them again after a while, and an idempotent
  provider is asked again at once, since it sends the same message once (the job, `run`);
- the tenant, for all of a campaign's: send them again, give them up, or take them as sent
  (`decide`).

`hold`, the default, waits for the first or the last of these. Locks: messages, campaign, lane.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import orjson
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.utils import timezone

from campaigns import endings, moves
from campaigns.models import DOUBTED_AT, DOUBTFUL, Campaign, Message, ProviderAccount
from campaigns.policy import TRIES
from campaigns.providers import UnknownProvider
from campaigns.sending import account_of
from campaigns.states import OnUnknown
from jobs import tallying
from jobs.outcomes import Outcome, Succeeded
from jobs.registry import queue
from jobs.resolving import CHUNK, Act, Resolution
from jobs.resolving import resolve as resolve_works
from jobs.services import OPERATOR, enqueue, wake_after_commit
from jobs.states import State
from jobs.steps import Claim
from tenants.context import require_tenant, tenant_context
from webhooks.secrets import KeyLost

QUEUE = "messages"
PATIENCE = 15 * 60.0  # Seconds in which a callback may still tell, before `retry` sends again.
LOSSES = 3  # In a row: whoever is tried after so many kills whatever tries it.

# What is counted is what this moved: a callback that comes twice moves it once.
_MOVE = """
with found as materialized (
  select id, state from campaigns_message
  where tenant_id = %(tenant)s and id = any(%(ids)s) and ({unsure})
  order by id for update
)
update campaigns_message w set {changes} from found where w.id = found.id
returning w.id, found.state
"""
_UNKNOWN = "state = 'unknown'"
# Or it was, and waits to be sent again.
_DOUBTFUL = f"""{_UNKNOWN} or state in ('pending', 'scheduled', 'failed')
  and last_error ~ '{DOUBTFUL}'"""
_SENT = """state = 'succeeded', finished_at = now(), last_error = '',
  provider_id = case when %(provider_id)s = '' then w.provider_id else %(provider_id)s end"""
# The try of which nobody knows counts as one, even where it was lost: so that the next is not its
# first, which only its tenant's word makes it (campaigns.steps).
_AGAIN = """state = 'pending', due_at = now(), priority = greatest(w.priority, 1),
  forgiven = greatest(0, least(w.forgiven, w.attempts - 1))"""
_FAILED = "state = 'dead_letter', last_error = %(error)s"

# As the engine writes them (jobs.engine.settle).
_LETTER = """
with letter as (
  insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error)
  values (gen_random_uuid(), %(tenant)s, 'messages', %(id)s, 'failed', %(error)s)
  on conflict do nothing returning work_id
)
insert into tenants_auditentry
  (id, at, tenant_id, actor, action, target, reason, before, after, request_id)
select gen_random_uuid(), now(), %(tenant)s, %(actor)s, 'work.dead_lettered',
  'messages:' || work_id, 'failed', '{"state": "unknown"}', '{"state": "dead_letter"}', ''
from letter
"""

_OF_CAMPAIGN = """
select id from campaigns_message w
where tenant_id = %(tenant)s and campaign_id = %(campaign)s and state = 'unknown' and id > %(after)s
  and ({condition})
order by id limit %(most)s
"""
# The provider named it, or told of it, while its reply was still awaited.
TOLD = """provider_id <> '' or delivered_at is not null or read_at is not null
  or undelivered_at is not null"""
# It has tries left; `due_at` is when it became unknown.
RETRIABLE = f"""attempts - forgiven < {int(TRIES.attempts)} and losses < {LOSSES} and not test"""
# Whom to ask again by itself: after the patience, or at once whoever is asked about it.
_DUE = f"""{RETRIABLE} and (due_at <= now() - make_interval(secs => %(patience)s)
  or {DOUBTED_AT.format(work="w")} > %(led_at)s)"""
# Campaigns that have unknown messages, and what the job may find to do with these. A week after
# its end nobody tells of a campaign any more.
_UNSURE = """
select c.tenant_id, c.id, coalesce(bool_or({told}), false), coalesce(bool_or({retriable}), false)
from campaigns_campaign c join campaigns_message m
  on m.tenant_id = c.tenant_id and m.campaign_id = c.id and m.state = 'unknown'
where c.unknown > 0 and coalesce(c.finished_at > now() - interval '7 days', true)
group by c.tenant_id, c.id
having bool_or({told}) or bool_or({retriable})
"""
_NIL = UUID(int=0)


class To(StrEnum):
    """What an unknown message turns out to be, or is to be."""

    SENT = "sent"
    FAILED = "failed"  # For good: a dead letter.
    AGAIN = "again"  # Sent once more, perhaps twice then.
    GIVEN_UP = "given_up"  # Whatever became of it.


def resolve(
    *, message_id: UUID, to: str, provider_id: str = "", error: str = "", actor: str
) -> bool:
    """Say what became of an unknown message of the current tenant's; whether it still was unknown.

    What was sent is not sent again: that is said of one, too, that waits for that already.
    In the caller's transaction, if there is one; but a failure is written after it, as the engine's
    own: dead letters are not the app role's to write. `actor` is audited with that.
    """
    if to == To.FAILED:
        fail = partial(_fail, message_id, require_tenant().id, error[:500], actor)
        transaction.on_commit(fail, robust=True)
        return Message.objects.filter(pk=message_id, state=State.UNKNOWN).exists()
    if to == To.SENT:
        return bool(_taken_as_sent([message_id], _DOUBTFUL, provider_id=provider_id[:200]))
    return bool(_sent_again([message_id]))


def decide(*, campaign_id: UUID, to: str, actor: str, reason: str) -> int:
    """Resolve all unknown messages of a campaign as its tenant says; says how many.

    Sent again, they stand behind what is on time, with all tries; perhaps twice, as was decided.
    Given up, they are cancelled. Raises CampaignNotFound, StaleCampaign, ReasonMissing.
    """
    acts: dict[str, Callable[[Sequence[UUID]], int]] = {
        To.AGAIN: partial(_resolved, Act(Resolution.REPLAYED, actor, reason)),
        To.GIVEN_UP: partial(_resolved, Act(Resolution.CANCELLED, actor, reason)),
        To.SENT: _taken_as_sent,
    }
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
    if to == To.AGAIN:
        endings.refuse_over(campaign)
    count = _each_chunk(campaign_id, "true", acts[to])
    after = {"messages": count, "to": str(to)}
    moves.record(campaign, "unknown_resolved", actor=actor, reason=reason, after=after)
    return count


def run(claim: Claim) -> Outcome:
    """The job `campaigns.unknown`: {"campaign"}. What is known by now, and what its policy says."""
    campaign_id = UUID(claim.data["args"]["campaign"])
    with tenant_context(claim.tenant):
        _each_chunk(campaign_id, TOLD, _taken_as_sent)
        campaign = Campaign.objects.filter(pk=campaign_id).first()
        patience = NEVER if campaign is None else patience_of(campaign)
        if patience != NEVER:
            _each_chunk(campaign_id, _DUE, _sent_again, **patience._asdict())
    return Succeeded()


class Patience(NamedTuple):
    """When a campaign's unknown messages are sent again by themselves; None: never.

    `patience`: after so many seconds. `led_at`: at once, those that were first tried after that,
    since their provider sends the same message once; another would not know them.
    """

    patience: float | None
    led_at: datetime | None


NEVER = Patience(None, None)


def patience_of(campaign: Campaign, *, using: str = DEFAULT_DB_ALIAS) -> Patience:
    """When its unknown messages are sent again."""
    if campaign.state not in endings.OPEN or endings.is_too_late(campaign):
        return NEVER
    accounts = ProviderAccount.objects.using(using).filter(pk=campaign.account_id)
    account = accounts.filter(deleted_at=None).first()
    if account is None:
        return NEVER
    waits = PATIENCE if campaign.on_unknown == OnUnknown.RETRY else None
    return Patience(waits, account.led_at if _is_idempotent(account) else None)


def _is_idempotent(row: ProviderAccount) -> bool:
    columns = ("provider", "base_url", "sender", "credentials")
    data = {name: getattr(row, name) for name in columns}
    data |= {"account_id": row.pk, "options": orjson.dumps(row.options).decode()}
    try:
        provider, account = account_of(data)
    except (KeyLost, UnknownProvider):
        return False
    return provider.idempotent(account)


# ---- The moves, each of at most a chunk, in one transaction ----


def _each_chunk(
    campaign_id: UUID, condition: str, act: Callable[[Sequence[UUID]], int], **values: Any
) -> int:
    """Do it to a campaign's unknown messages of which the condition holds; says how many."""
    statement = _OF_CAMPAIGN.format(condition=condition)
    values |= {"tenant": require_tenant().id, "campaign": campaign_id, "most": CHUNK}
    place, count = _NIL, 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, values | {"after": place})
            ids = [id_ for (id_,) in cursor.fetchall()]
        if ids:
            count += act(ids)
            place = ids[-1]
        if len(ids) < CHUNK:
            return count


def _taken_as_sent(ids: Sequence[UUID], unsure: str = _UNKNOWN, *, provider_id: str = "") -> int:
    with transaction.atomic():
        return len(_moved(ids, _SENT, State.SUCCEEDED, unsure, provider_id=provider_id))


def _sent_again(ids: Sequence[UUID]) -> int:
    with transaction.atomic():
        moved = _moved(ids, _AGAIN, State.PENDING)
        wake_after_commit(QUEUE)
    return len(moved)


def _resolved(act: Act, ids: Sequence[UUID]) -> int:
    with transaction.atomic():
        moved = resolve_works(queue=QUEUE, ids=ids, act=act, using=DEFAULT_DB_ALIAS)
        wake_after_commit(QUEUE)
    return len(moved)


def _moved(
    ids: Sequence[UUID], changes: str, after: State, unsure: str = _UNKNOWN, **values: Any
) -> list[UUID]:
    """Move those of these that are still unknown, and count them; says which."""
    values |= {"tenant": require_tenant().id, "ids": list(ids)}
    with connection.cursor() as cursor:
        cursor.execute(_MOVE.format(changes=changes, unsure=unsure), values)
        moved = cursor.fetchall()
    _count(moved, after, DEFAULT_DB_ALIAS)
    return [id_ for id_, _ in moved]


def _fail(message_id: UUID, tenant_id: int, error: str, actor: str) -> None:
    values: dict[str, Any] = {"tenant": tenant_id, "ids": [message_id], "error": error}
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        cursor.execute(_MOVE.format(changes=_FAILED, unsure=_UNKNOWN), values)
        if moved := cursor.fetchall():
            cursor.execute(_LETTER, values | {"id": message_id, "actor": actor})
            _count(moved, State.DEAD_LETTER, OPERATOR)


def _count(moved: Sequence[tuple[UUID, str]], after: State, using: str) -> None:
    tallying.tally(queue(QUEUE), [(id_, before, after) for id_, before in moved], using)


# ---- What is due ----


def tend() -> int:
    """Have what is due done, by a job for each campaign; says how many. Runs as the operator."""
    count = 0
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_UNSURE.format(told=TOLD, retriable=RETRIABLE))
        unsure = cursor.fetchall()
    for tenant_id, campaign_id, told, retriable in unsure:
        if told or (retriable and _is_due(tenant_id, campaign_id)):
            # One that is not done within the minute is left alone for as long.
            once = uuid5(campaign_id, f"unknown {timezone.now():%Y-%m-%dT%H:%M}")
            args = {"campaign": str(campaign_id)}
            enqueue("campaigns.unknown", tenant_id=tenant_id, args=args, once=once, using=OPERATOR)
            count += 1
    return count


def _is_due(tenant_id: int, campaign_id: UUID) -> bool:
    patience = patience_of(Campaign.objects.using(OPERATOR).get(pk=campaign_id), using=OPERATOR)
    if patience == NEVER:
        return False
    values: dict[str, Any] = patience._asdict()
    values |= {"tenant": tenant_id, "campaign": campaign_id, "after": _NIL, "most": 1}
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_OF_CAMPAIGN.format(condition=_DUE), values)
        return cursor.fetchone() is not None
