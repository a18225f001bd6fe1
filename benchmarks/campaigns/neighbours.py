"""How long a small tenant's message waits for its start, with and without a large neighbour.

Nineteen tenants send one message after the other, each through an account of its own at a provider
that answers after 0.3 s. The neighbour has a hundred thousand at one that takes two seconds, never
answers one in ten, and is declared to take a thousand a second. The delay is from the commit of the
message to its acceptance, by the sandbox's ledger. Times with the neighbour are compared with those
before and after it.
"""

import time
from collections.abc import Iterator

from benchmarks.campaigns.office import Account, Office, office, write_customers
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, ms, percentile

SMALL = 19
GAP = 0.05  # Seconds between the messages of the small.
SETTLING = 8.0  # Seconds until the neighbour's window is as wide as it gets.
PATIENCE = 60.0  # Seconds for the last arrival.
SOONEST = 0.0001  # Seconds: an arrival may overtake the end of the commit.
BUDGET = Budget(most=1.5)
# Locked in the order of ids, as whoever settles them does.
DRY = """
with theirs as materialized (
  select id from campaigns_message where tenant_id = %s and finished_at is null
  order by id for update
)
update campaigns_message m set state = 'cancelled', lease = null, drainer = null,
  finished_at = now() from theirs where m.id = theirs.id
"""


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with office(stack, "neighbours") as place:
        large, *small = place.tenants(1 + SMALL, customers=1)
        accounts = [place.account(tenant, {"latency": 0.3}) for tenant in small]
        flood = _flood(place, large, size.flood)
        with place.drainer():
            _delays(place, accounts, 1)  # Warms up.
            quiet = _delays(place, accounts, size.of_bystander)
            flood.campaign(size.flood)
            time.sleep(SETTLING)
            troubled = _delays(place, accounts, size.of_bystander)
            in_flight = flood.ledger()["in_flight"]
            place.superuser.execute(DRY, [large])
            place.superuser.execute("vacuum campaigns_message")
            quiet += _delays(place, accounts, size.of_bystander)
    for q in (0.5, 0.95):
        ours, other = percentile(troubled, q), percentile(quiet, q)
        yield Row(
            f"a small campaign's start delay, p{q * 100:.0f}, with / without a neighbour's"
            f" {size.flood:,} at 2 s, {in_flight} under way",
            ms(ours),
            ms(other),
            ours / other,
            BUDGET,
        )


def _flood(place: Office, tenant: int, messages: int) -> Account:
    place.superuser.execute("delete from pool.customers_customer where tenant_id = %s", [tenant])
    write_customers(place.superuser, tenant, messages)
    hanging = {"latency": 2.0, "faults": {"hang": 0.1}}
    return place.account(tenant, hanging, rate=1000, slots=1200)


def _delays(place: Office, accounts: list[Account], times: int) -> list[float]:
    """Seconds from each message's commit to its acceptance."""
    written: dict[str, tuple[Account, float]] = {}
    for _ in range(times):
        for account in accounts:
            (message,) = account.add(account.campaign(0, of=1), 1)
            written[str(message)] = account, time.time()
            time.sleep(GAP)
    came: dict[str, float] = {}
    deadline = time.monotonic() + PATIENCE
    while not written.keys() <= came.keys():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(written.keys() - came.keys())} never came.")
        time.sleep(0.5)
        for account in accounts:
            came |= account.arrivals()
    return [max(SOONEST, came[message] - at) for message, (_, at) in written.items()]
