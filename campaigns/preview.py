"""What a campaign would come to: how many messages, to whom, who gets none and why, for how long.

Two statements over the customers, in the tenant's context as the app role, each bound by the role's
statement_timeout. The second finds ten and stops. What takes the first too long is asked again of
one customer in 64 and multiplied: a number that is nearly right, and says so, helps more than none.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson
import psycopg
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from campaigns import audience, parts, variables
from campaigns.errors import PreviewTookTooLong
from campaigns.filters import Filter
from campaigns.models import ProviderAccount, Skip
from campaigns.parts import Parts
from campaigns.variables import CannotRender, Expression
from customers.currency import currency
from jobs.models import Lane
from tenants.context import require_tenant
from tenants.models import Tenant

SAMPLE = 10  # Customers.
Found = TypeVar("Found")

# Numbers are counted before reasons, so that nothing is sorted.
_COUNT = """
with looked_at as (
  select {reason} as reason, c.phone from {source} where c.tenant_id = %(tenant)s and {filter}
), by_phone as (
  select reason, case when reason is null then phone end as phone, count(*) as n
  from looked_at group by 1, 2
)
select reason, sum(n)::bigint, count(*) from by_phone group by reason
"""
ONE_IN = 64
# Those of one number together, so that who shares one is seen.
_SOME = f"""(hashtextextended(case c.phone when '' then c.id::text else c.phone end, 7)
  & {ONE_IN - 1} = 0)"""
# For a million numbers, which would be written to disk twice over otherwise.
_MEMORY = "set local work_mem = '64MB'"
_SAMPLE = """
select c.id, c.external_id, c.name, c.phone, {params}::text
from {source} where c.tenant_id = %(tenant)s and {filter} and ({reason}) is null limit %(most)s
"""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One who would get a message; `text` is None where none was given, or it is too long."""

    customer_id: UUID
    external_id: str | None
    name: str
    phone: str
    params: Mapping[str, str]
    text: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a campaign would come to, were it launched now."""

    count: int  # Customers that the filter means.
    skips: Mapping[str, int]  # Skip.Reason → how many of them get no message.
    sample: tuple[Recipient, ...]
    estimated_seconds: int | None  # None where nobody has said, or learnt, what the account takes.
    approximate: bool = False  # One customer in 64 was looked at, and the numbers multiplied.
    currency: str | None = None  # Of amounts.

    @property
    def messages(self) -> int:
        return self.count - sum(self.skips.values())


@dataclass(frozen=True, slots=True)
class Said:
    """What one customer would read; `missing` is why it is nothing, and `text` None then."""

    params: Mapping[str, str | None]
    missing: str | None
    text: str | None


def preview(
    *,
    filter: Filter,
    mapping: Mapping[str, Any],
    message: Parts | None = None,
    account: ProviderAccount | None = None,
    sample: int = SAMPLE,
) -> Preview:
    """Look through the current tenant's customers as a campaign would.

    Raises InvalidVariables, PreviewTookTooLong.
    """
    text = message.whole if message is not None else None
    said = variables.expression(mapping, text=text, time_zone=time_zone())
    # One moment for both.
    condition, values = filter.sql(timezone.now())
    values |= said.values | {"tenant": require_tenant().id}
    with _bounded():
        (count, skips), whole = _in_time(lambda of: _counted(of, said, values), condition)
        times = 1 if whole else ONE_IN
        count, skips = count * times, {why: many * times for why, many in skips.items()}
        if sample and count:
            shown, _ = _in_time(lambda of: _shown(of, said, values, message, sample), condition)
        else:
            shown = ()
    seconds = _seconds(count - sum(skips.values()), account)
    return Preview(count, skips, shown, seconds, approximate=not whole, currency=currency())


def recipient(*, customer_id: UUID, mapping: Mapping[str, Any], message: Parts) -> Said | None:
    """What a message says to one customer; None where there is no such customer.

    Raises InvalidVariables.
    """
    said = variables.expression(mapping, text=message.whole, time_zone=time_zone())
    statement = f"select {said.params}::text, {said.missing} from customers_customer c"  # noqa: S608
    where = " where c.tenant_id = %(tenant)s and c.id = %(customer)s"
    wanted = {"tenant": require_tenant().id, "customer": customer_id}
    with connection.cursor() as cursor:
        cursor.execute(statement + where, said.values | wanted)
        row = cursor.fetchone()
    if row is None:
        return None
    params = orjson.loads(row[0])
    return Said(params, row[1], None if row[1] else parts.render(message, params))


def time_zone() -> str:
    """The current tenant's: where the days of its dates begin."""
    rows = Tenant.objects.filter(pk=require_tenant().id)
    return rows.values_list("time_zone", flat=True).first() or "UTC"


def rate_of(account: ProviderAccount) -> float | None:
    """Messages a second that the account takes: as declared, else as learnt; None: nobody knows."""
    lane = Lane.objects.filter(key=account.key).first()
    rate = account.rate or (lane.learnt_rate if lane else None)
    if lane is not None and lane.operator_rate is not None:
        return min(rate, lane.operator_rate) if rate else lane.operator_rate
    return rate


def _in_time(ask: Callable[[str], Found], condition: str) -> tuple[Found, bool]:
    """What `ask` finds of the customers of whom a condition is true, and whether it asked all.

    One in 64 where the database stopped it. Raises OperationalError where it did so again.
    """
    try:
        return ask(condition), True
    except OperationalError as error:
        if not _was_stopped(error):
            raise
    # Only a CASE keeps the planner from asking first of all what is dear, and looks cheap to it.
    return ask(f"case when {_SOME} then {condition} else false end"), False


def _counted(
    condition: str, said: Expression, values: Mapping[str, Any]
) -> tuple[int, dict[str, int]]:
    """How many customers are meant, and how many of them are skipped, by reason."""
    statement = _COUNT.format(
        reason=audience.reason(said.missing), source=audience.FROM, filter=condition
    )
    count, skips = 0, {}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_MEMORY)
        cursor.execute(statement, values)
        for reason, customers, phones in cursor.fetchall():
            count += customers
            if reason is not None:
                skips[reason] = customers
            elif customers > phones:
                skips[str(Skip.Reason.DUPLICATE_PHONE)] = customers - phones
    return count, skips


def _shown(
    condition: str, said: Expression, values: Mapping[str, Any], message: Parts | None, most: int
) -> tuple[Recipient, ...]:
    statement = _SAMPLE.format(
        params=said.params,
        reason=audience.reason(said.missing),
        source=audience.FROM,
        filter=condition,
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {**values, "most": most})
        rows = cursor.fetchall()
    return tuple(_recipient(row, message) for row in rows)


def _recipient(row: Sequence[Any], message: Parts | None) -> Recipient:
    id, external_id, name, phone, written = row
    params = orjson.loads(written)
    return Recipient(id, external_id, name, phone, params, _text(message, params))


def _text(message: Parts | None, params: Mapping[str, str]) -> str | None:
    try:
        return None if message is None else parts.render(message, params)
    except CannotRender:  # Nobody of whom it is true was asked for.
        return None


def _seconds(messages: int, account: ProviderAccount | None) -> int | None:
    rate = rate_of(account) if account is not None else None
    return math.ceil(messages / rate) if rate else None


@contextmanager
def _bounded() -> Iterator[None]:
    """Raises PreviewTookTooLong where the database stopped the block."""
    try:
        yield
    except OperationalError as error:
        if _was_stopped(error):
            raise PreviewTookTooLong(
                "There are too many customers to count them while you wait. A campaign is not"
                " bound by this: it goes through them piece by piece.",
                headers={"Retry-After": "10"},
            ) from None
        raise


def _was_stopped(error: OperationalError) -> bool:
    """Whether it took the database longer than it may."""
    return isinstance(error.__cause__, psycopg.errors.QueryCanceled)
