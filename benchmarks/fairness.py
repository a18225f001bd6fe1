"""How long a bystander's delivery waits for its start, with and without a neighbour's trouble.

Fifty tenants publish one event after the other to endpoints that answer at once. The trouble is, in
turn: a tenant with a hundred thousand deliveries for an endpoint that takes two seconds; forty
tenants whose endpoints are on one host that takes requests and never answers; and the same on a
host that refuses them. The delay is from the end of the publishing call until the request arrives.
Between two troubles there is none: each is compared with the quiet before and after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from benchmarks import listening
from benchmarks.delivering import Site, site
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, ms, percentile

BYSTANDERS = 50
NEIGHBOURS, OF_EACH = 40, 200  # Tenants on one dead host, and deliveries of each.
GAP = 0.02  # Seconds between the bystanders' events.
SOONEST = 0.0001  # Seconds: an arrival may overtake the end of the call.
BUDGET = Budget(most=1.5)

FLOOD = """
with events as (
  insert into webhooks_event (id, tenant_id, type)
  select uuidv7(), w.tenant_id, 'invoice.paid'
  from webhooks_endpoint w, generate_series(1, %(each)s) where w.tenant_id = any(%(tenants)s)
  returning id, tenant_id, created_at
), payloads as (
  insert into webhooks_payload (event_id, tenant_id, created_at, data)
  select id, tenant_id, created_at, '{"n": 1}' from events
)
insert into webhooks_delivery (id, tenant_id, event_id, endpoint_id, lane, host, max_attempts)
select uuidv7(), e.tenant_id, e.id, w.id, 'endpoint:' || w.id, w.host, 10
from events e join webhooks_endpoint w on w.tenant_id = e.tenant_id
"""
# Locked in the order of ids, as whoever settles them does.
DRY = """
with theirs as materialized (
  select id from webhooks_delivery where tenant_id = any(%s) and state <> 'succeeded'
  order by id for update
)
update webhooks_delivery d set state = 'cancelled', lease = null, drainer = null
from theirs where d.id = theirs.id
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a bystander has next door."""

    name: str
    url: str
    tenants: int
    each: int  # Deliveries.


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with (
        site(stack, "fairness") as place,
        stack.connect(place.database, "postgres") as superuser,
    ):
        bystanders = _bystanders(place)
        with place.drainer():
            quiet = _delays(place, bystanders, size)  # Warms up.
            quiet = _delays(place, bystanders, size)
            for trouble in _troubles(place, size):
                makers = _make(place, superuser, trouble)
                troubled = _delays(place, bystanders, size)
                superuser.execute(DRY, [makers])
                # What is swept away here at one stroke would be in the way of the next trouble.
                superuser.execute("vacuum webhooks_delivery")
                before, quiet = quiet, _delays(place, bystanders, size)
                yield from _rows(trouble, troubled, before + quiet)


def _troubles(place: Site, size: Size) -> list[Trouble]:
    host = listening.ADDRESSES[-1]
    slow, never = (f"http://{host}:{place.port}/{delay}/{{n}}" for delay in ("2", "never"))
    refused = f"http://{host}:{place.closed_port}/0/{{n}}"
    return [
        Trouble(f"one tenant's {size.flood:,} for an endpoint of 2 s", slow, 1, size.flood),
        Trouble(f"{NEIGHBOURS} tenants on one host that never answers", never, NEIGHBOURS, OF_EACH),
        Trouble(f"{NEIGHBOURS} tenants on one host that refuses", refused, NEIGHBOURS, OF_EACH),
    ]


def _bystanders(place: Site) -> list[int]:
    tenants: list[int] = place.run(
        "crowd", "endpoints", urls=place.urls("0")[:-1], tenants=BYSTANDERS, each=1
    )
    return tenants


def _make(place: Site, superuser: psycopg.Connection, trouble: Trouble) -> list[int]:
    """Write all of a trouble's deliveries; whose they are."""
    tenants: list[int] = place.run(
        "crowd", "endpoints", urls=[trouble.url], tenants=trouble.tenants, each=1
    )
    superuser.execute(FLOOD, {"tenants": tenants, "each": trouble.each})
    superuser.execute("analyze webhooks_delivery, webhooks_event, webhooks_payload")
    return tenants


def _delays(place: Site, tenants: list[int], size: Size) -> list[float]:
    """Seconds from each event to its arrival."""
    published = place.run("crowd", "trickle", tenants=tenants, times=size.of_bystander, gap=GAP)
    arrived = place.arrivals(set(published))
    return [max(SOONEST, arrived[name] - at) for name, at in published.items()]


def _rows(trouble: Trouble, troubled: list[float], quiet: list[float]) -> Iterator[Row]:
    for q in (0.5, 0.95):
        ours, other = percentile(troubled, q), percentile(quiet, q)
        yield Row(
            f"a bystander's start delay, p{q * 100:.0f}, with / without {trouble.name}",
            ms(ours),
            ms(other),
            ours / other,
            BUDGET,
        )
