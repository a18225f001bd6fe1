"""What providers tell of messages afterwards: taken in by a job, applied by that.

A callback costs one look-up, one signature and one row: the job has the receipts in its args, and
nothing personal. What they say is joined to what is known already, so that neither their order nor
their number matters: a moment only moves back, what was read was delivered before, and what was
delivered did not fail. A campaign's counters move with the messages, in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import structlog
from django.db import connection, transaction

from campaigns import opting_out, unknown
from campaigns.accounts import clear
from campaigns.models import DOUBTFUL, ProviderAccount
from campaigns.providers import Listening, Receipt, provider
from config.ids import format_id
from config.spelling import seen
from customers import consent
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.services import enqueue
from jobs.states import State
from jobs.steps import Claim
from tenants.context import TenantRef, require_tenant, tenant_context

KIND = "campaigns.receipts"
GIVEN_UP = 86400.0  # Seconds after which a message that is not there never will be.
LONGEST_WAIT = 3600.0  # Seconds between two looks for it.
LONGEST_WHY = 200  # Characters, as Message.undelivered_why has room for.

log = structlog.get_logger(__name__)

# A try is under way, or will be: whether it was accepted is not settled.
UNSETTLED = frozenset({State.SCHEDULED, State.PENDING, State.PROCESSING, State.FAILED, State.HELD})
WAITING = frozenset({State.SCHEDULED, State.PENDING, State.FAILED})

# Accounts that lead to the same provider share its callbacks: an app of Meta's has one address for
# all of its numbers.
_FIND = """
with shared as materialized (
  select 'account:' || other.id as key
  from campaigns_provideraccount own join campaigns_provideraccount other
    on other.tenant_id = own.tenant_id and other.provider = own.provider
   and other.base_url = own.base_url
  where own.tenant_id = %(tenant)s and own.id = %(account)s
)
select m.id, m.provider_id, m.state, m.phone, m.last_error ~ %(doubtful)s from campaigns_message m
where m.tenant_id = %(tenant)s and m.id = any(%(ids)s)
  and m.account_key in (select key from shared)
union
select m.id, m.provider_id, m.state, m.phone, m.last_error ~ %(doubtful)s from campaigns_message m
where m.tenant_id = %(tenant)s and m.provider_id = any(%(provider_ids)s) and m.provider_id <> ''
  and m.account_key in (select key from shared)
"""

# `after` is the join of what is known and what is told, in which no order can be seen.
_APPLY = """
with told as (
  select * from json_to_recordset(%(told)s::json)
    t(id uuid, delivered timestamptz, read timestamptz, failed timestamptz, why text)
), locked as materialized (
  select m.id, m.campaign_id, m.test, m.delivered_at, m.read_at, m.undelivered_at,
    m.undelivered_why, t.failed, t.why, least(m.read_at, t.read) as read_after,
    least(m.delivered_at, t.delivered, t.read) as delivered_after
  from campaigns_message m join told t on t.id = m.id
  where m.tenant_id = %(tenant)s and m.state = 'succeeded' order by m.id for update of m
), after as materialized (
  select l.*,
    case when delivered_after is null then least(undelivered_at, failed) end as failed_after,
    case when delivered_after is not null then ''
      when failed is null or (undelivered_at, undelivered_why collate "C") <= (failed, why)
        then undelivered_why
      else why end as why_after
  from locked l
), moved as (
  update campaigns_message m set delivered_at = a.delivered_after, read_at = a.read_after,
    undelivered_at = a.failed_after, undelivered_why = a.why_after
  from after a where m.tenant_id = %(tenant)s and m.id = a.id
    and (m.delivered_at, m.read_at, m.undelivered_at, m.undelivered_why)
      is distinct from (a.delivered_after, a.read_after, a.failed_after, a.why_after)
  returning a.*
), change as materialized (
  select campaign_id,
    count(*) filter (where delivered_at is null and delivered_after is not null) as delivered,
    count(*) filter (where read_at is null and read_after is not null) as read,
    count(*) filter (where undelivered_at is null and failed_after is not null)
      - count(*) filter (where undelivered_at is not null and failed_after is null) as undelivered
  from moved where not test group by campaign_id
), campaigns as materialized (
  select c.id from campaigns_campaign c
  where c.tenant_id = %(tenant)s
    and c.id in (select campaign_id from change
                 where (delivered, read, undelivered) <> (0, 0, 0))
  order by c.id for no key update
)
update campaigns_campaign c set delivered = c.delivered + d.delivered, read = c.read + d.read,
  undelivered = c.undelivered + d.undelivered
from change d join campaigns k on k.id = d.campaign_id
where c.tenant_id = %(tenant)s and c.id = k.id
"""


class Found(NamedTuple):
    """A message that receipts may be about."""

    id: UUID
    provider_id: str
    state: str
    phone: str
    doubtful: bool  # An earlier try has perhaps sent it.

    @property
    def unsure(self) -> bool:
        """Whether it is unknown, or was, and waits to be sent again."""
        return self.state == State.UNKNOWN or (self.doubtful and self.state in WAITING)


def home_of(account_id: UUID) -> TenantRef | None:
    """The tenant whose account this is; None for one that is gone, or never was."""
    with connection.cursor() as cursor:
        cursor.execute("select * from slipway.account_home(%s)", [account_id])
        row = cursor.fetchone()
    return None if row is None else TenantRef(*row)


def take(account: ProviderAccount, *, headers: Mapping[str, str], body: bytes) -> int | None:
    """Have the receipts of a callback applied, and hear who opts out in it.

    How many receipts there are; None where the signature is no good.

    `headers` by their names in lower case. Raises BadCallback for what cannot be read,
    CredentialsLost.
    """
    opened, named = clear(account), provider(account.provider)
    if not named.genuine(opened, headers, body):
        return None
    told = [_as_json(receipt) for receipt in named.receipts(opened, headers, body)]
    said = named.opt_outs(opened, headers, body) if isinstance(named, Listening) else []
    with transaction.atomic():
        if said:
            opting_out.hear(account, said)
        if told:
            args = {"account": str(account.pk), "receipts": told}
            # A lane of their own: a campaign's many must not hold up its tenant's other jobs.
            lane = f"receipts:{account.pk}"
            enqueue(KIND, tenant_id=require_tenant().id, args=args, lane=lane)
    return len(told)


def run(claim: Claim) -> Outcome:
    """The job `campaigns.receipts`: applies them all; again changes nothing."""
    account_id = UUID(claim.data["args"]["account"])
    receipts = [_from_json(one) for one in claim.data["args"]["receipts"]]
    with tenant_context(claim.tenant):
        waiting = apply(account_id, receipts)
    if waiting:
        age = (claim.started_at - claim.created_at).total_seconds()
        if age < GIVEN_UP:
            return Snooze(min(max(1.0, age), LONGEST_WAIT), "its message is not settled yet")
        log.warning("receipts_given_up", account=str(account_id), count=waiting)
    # What was applied need not be kept: an id of WhatsApp's has the number in it.
    done = {"account": str(account_id), "receipts": [], "count": len(receipts)}
    return Succeeded(patch={"args": done})


def apply(account_id: UUID, receipts: Sequence[Receipt]) -> int:
    """Enter what the receipts tell; how many are of messages that are not settled yet."""
    found = _found(account_id, receipts)
    pairs = list(_matched(found, receipts))
    source = f"provider:{format_id('acc', account_id)}"
    if _resolve_unknown(pairs, actor=source):
        pairs = list(_matched(_found(account_id, receipts), receipts))
    _enter([(m, r) for m, r in pairs if m is not None and m.state == State.SUCCEEDED])
    _withdraw(pairs, source=source)
    return sum(_is_early(message, receipt) for message, receipt in pairs)


def _resolve_unknown(pairs: Iterable[tuple[Found | None, Receipt]], *, actor: str) -> int:
    """Whatever is told of a message says that it was accepted: even that it then failed."""
    named = {
        # A name of WhatsApp's has the number in it: one that was erased does not come back so.
        m.id: r.provider_id if m.phone else ""
        for m, r in pairs
        if m is not None and m.unsure
    }
    for message_id in sorted(named):
        unknown.resolve(
            message_id=message_id, to="sent", provider_id=named[message_id], error="", actor=actor
        )
    return len(named)


def _withdraw(pairs: Iterable[tuple[Found | None, Receipt]], *, source: str) -> None:
    """Write to nobody any more who opted out; said once, it is done once."""
    said: dict[str, datetime] = {}
    for message, receipt in pairs:
        if message is not None and message.phone and receipt.opted_out:
            said[message.phone] = max(said.get(message.phone, receipt.at), receipt.at)
    for phone, at in said.items():
        if not consent.withdrawn_since(at, phone=phone, source=source):
            consent.withdraw(phone=phone, source=source)


def _found(account_id: UUID, receipts: Sequence[Receipt]) -> list[Found]:
    values: dict[str, Any] = {
        "tenant": require_tenant().id,
        "account": account_id,
        "doubtful": DOUBTFUL,
        "ids": [receipt.message_id for receipt in receipts if receipt.message_id],
        "provider_ids": [receipt.provider_id for receipt in receipts if not receipt.message_id],
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIND, values)
        return [Found(*row) for row in cursor.fetchall()]


def _matched(
    found: Iterable[Found], receipts: Iterable[Receipt]
) -> Iterable[tuple[Found | None, Receipt]]:
    by_id = {message.id: message for message in found}
    by_name = {message.provider_id: message for message in by_id.values() if message.provider_id}
    for receipt in receipts:
        if receipt.message_id is not None:
            yield by_id.get(receipt.message_id), receipt
        else:
            yield by_name.get(receipt.provider_id), receipt


def _is_early(message: Found | None, receipt: Receipt) -> bool:
    """Whether to look again: an id of ours is there before it is sent, one of theirs is not."""
    if message is None:
        return receipt.message_id is None
    return message.state in UNSETTLED


def _enter(pairs: Iterable[tuple[Found, Receipt]]) -> None:
    """Join what is told of each message, and write it; `sent` is known by then."""
    told: dict[UUID, dict[str, Any]] = {}
    for message, receipt in pairs:
        known = told.setdefault(message.id, {"id": message.id, "why": ""})
        if receipt.what in ("delivered", "read"):
            known[receipt.what] = min(known.get(receipt.what, receipt.at), receipt.at)
        elif receipt.what == "failed":
            first = (receipt.at, receipt.error)
            if "failed" in known:
                first = min(first, (known["failed"], known["why"]))
            known["failed"], known["why"] = first
    rows = [known for known in told.values() if len(known) > 2]
    if not rows:
        return
    values: dict[str, Any] = {"tenant": require_tenant().id, "told": orjson.dumps(rows).decode()}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_APPLY, values)


def _as_json(receipt: Receipt) -> dict[str, Any]:
    return {
        "message": receipt.message_id and str(receipt.message_id),
        "provider_id": seen(receipt.provider_id),
        "what": receipt.what,
        "at": receipt.at.isoformat(),
        "error": seen(receipt.error)[:LONGEST_WHY],
        "opted_out": receipt.opted_out,
    }


def _from_json(said: Mapping[str, Any]) -> Receipt:
    return Receipt(
        message_id=UUID(said["message"]) if said["message"] else None,
        provider_id=said["provider_id"],
        what=said["what"],
        at=datetime.fromisoformat(said["at"]),
        error=said["error"],
        opted_out=said["opted_out"],
    )
